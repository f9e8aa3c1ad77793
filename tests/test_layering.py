"""One line of layers: each folder imports only from those before it; pure modules do no I/O."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Imports point to the left.
PACKAGES = ("streams", "slo", "exporters", "alerts", "grafana", "tokenpulse")
FOLDERS = {
    "streams": (
        ".",
        *(
            "config",
            "logs",
            "security",
            "http",
            "events",
            "intake/otlp",
            "state",
            "store/servers",
            "store",
            "kafka",
            "worker",
            "query",
        ),
        *("sources", "intake/confluent", "intake", "simulator"),
    ),
    "slo": (".", "policy", "engine"),
    "exporters": (
        ".",
        *("pricing", "pricing/sources", "revenue"),
        *("catalogue", "reference", "windows", "metrics", "board"),
        *("board/incidents", "board/live", "drill"),
        *("daily/day", "daily/commercial", "daily/editions"),
        *("daily/render", "daily/delivery", "daily"),
        *("status_page", "server"),
    ),
    "alerts": (".", "rules", "evaluation", "backtest"),
    "grafana": (".", "boards"),
    "tokenpulse": (
        *(".", "local", "cli"),
        *("cli/business", "cli/health", "cli/announcements", "cli/operator", "cli/processes"),
    ),
}
# `python -m grafana.generate` writes the boards, so it stands before the folder it imports.
GENERATORS = {"grafana/generate.py"}
MOST_MODULES, MOST_LINES = 16, 400

# What only modules that do I/O may import or call.
SHELLS = {"faust", "mode", "redis", "aiokafka", "asyncio", "threading", "socket", "time", "os"}
CLOCKS = {"datetime.now", "datetime.utcnow", "date.today", "datetime.today"}

MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> list[str]:
    """Return the full names of all imported modules, and of what is imported from them."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: import by full name"
            names.append(str(node.module))
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def imported_modules(path: Path) -> set[Path]:
    """Return our own modules that a module imports."""
    candidates = {ROOT / f"{name.replace('.', '/')}.py" for name in imports(path)}
    return {candidate for candidate in candidates if candidate.is_file()}


def layer_of(path: Path) -> tuple[int, int]:
    """Return the places of a module's package and folder in the line of layers."""
    package, *_ = path.relative_to(ROOT).parts
    folder = path.parent.relative_to(ROOT / package).as_posix()
    return PACKAGES.index(package), FOLDERS[package].index(folder)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_to_earlier_layers(path: Path) -> None:
    if name_of(path) in GENERATORS:
        return
    later = [name_of(other) for other in imported_modules(path) if layer_of(other) > layer_of(path)]
    assert not later, f"{name_of(path)} imports {later}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_import_of_ours_hides_in_a_function(path: Path) -> None:
    hidden = [
        ast.unparse(node)
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in PACKAGES
    ]
    assert not hidden, f"{name_of(path)}: {hidden}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=name_of)
def test_a_folder_can_be_read_at_a_glance(folder: Path) -> None:
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, f"{len(modules)} modules in {name_of(folder)}"


def test_a_module_can_be_read_in_one_sitting() -> None:
    paths = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    lines = {name_of(path): len(path.read_text().splitlines()) for path in paths}
    assert {name: size for name, size in lines.items() if size > MOST_LINES} == {}


def is_pure(path: Path) -> bool:
    """Whether the module's docstring says that it is pure."""
    return "Pure" in (ast.get_docstring(ast.parse(path.read_text())) or "")


PURE = [path for path in MODULES if is_pure(path)]


def test_events_spans_and_state_are_pure() -> None:
    domain = [
        path
        for path in MODULES
        if name_of(path).startswith(("streams/events/", "streams/intake/otlp/", "streams/state/"))
        and path.name != "__init__.py"
    ]
    assert len(domain) > 10
    assert [name_of(path) for path in domain if not is_pure(path)] == []


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_a_pure_module_uses_no_network_and_no_clock(path: Path) -> None:
    shells = [name for name in imports(path) if name.split(".")[0] in SHELLS]
    assert not shells, f"{name_of(path)} imports {shells}"
    tree = ast.parse(path.read_text())
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert CLOCKS.isdisjoint(attributes), f"{name_of(path)} reads the clock"
