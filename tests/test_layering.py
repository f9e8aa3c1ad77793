"""Small pure modules know the domain, thin shells know the network: kept by reading the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PURE = (
    "tables",
    "histogram",
    "recording",
    "slices",
    "registry",
    "partition",
    "windows",
    "measures",
    "events",
    "event_fields",
    "event_json",
    "event_schema",
    "event_columns",
    "duplicates",
    "stored",
    "store",
    "custody",
    "breaker",
    "coverage",
    "archive",
    "exemplars",
)
# Of exporters/board: all but the page and its routes.
PURE_BOARD = (
    *("facts", "measured", "minutes", "concentration", "history", "reading", "levels", "live"),
    *("standings", "places", "numbers", "pipeline", "troubles", "text", "words"),
)
SHELLS = {"faust", "mode", "redis", "aiokafka", "asyncio", "threading", "socket", "time", "os"}
CLOCKS = {"now", "utcnow", "today"}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imports(tree):
    """(dotted name, whether the module is imported when this one is) of every import."""
    found = []

    def visit(node, at_import):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((alias.name, at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "we import by full name"
                found.append((child.module, at_import))
                found.extend((f"{child.module}.{alias.name}", at_import) for alias in child.names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, at_import and not inside)

    visit(tree, True)
    return found


def belongs(name, package):
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_knows_no_network_and_no_clock(name):
    tree = ast.parse((ROOT / "streams" / f"{name}.py").read_text())
    for imported, _ in imports(tree):
        assert imported.split(".")[0] not in SHELLS, f"{name} imports {imported}"
        if belongs(imported, "streams") and imported != "streams":
            assert imported.split(".")[1] in PURE, f"{name} imports {imported}, which is not pure"
        assert not belongs(imported, "exporters")
    clocks = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert CLOCKS.isdisjoint(clocks), f"{name} asks for the time"


@pytest.mark.parametrize("name", PURE_BOARD)
def test_the_board_is_made_without_network_and_clock(name):
    tree = ast.parse((ROOT / "exporters" / "board" / f"{name}.py").read_text())
    for imported, _ in imports(tree):
        assert imported.split(".")[0] not in SHELLS, f"{name} imports {imported}"
        if belongs(imported, "exporters.board") and imported != "exporters.board":
            assert imported.split(".")[2] in PURE_BOARD, f"{name} imports {imported}: not pure"
    clocks = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert CLOCKS.isdisjoint(clocks), f"{name} asks for the time"


@pytest.mark.parametrize("path", modules("streams"), ids=lambda path: path.stem)
def test_streams_does_not_know_who_reads_it(path):
    for imported, at_import in imports(ast.parse(path.read_text())):
        for package in ("exporters", "alerts", "grafana"):
            if belongs(imported, package):
                assert path == ROOT / "streams" / "cli.py", f"{path.name} imports {imported}"
                assert not at_import, f"cli.py imports {imported} before a command needs it"
