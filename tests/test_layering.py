"""Small pure modules know the domain, thin shells know the network: kept by reading the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("streams", "slo", "exporters", "alerts", "grafana", "tokenpulse")
SHELLS = {"faust", "mode", "redis", "aiokafka", "asyncio", "threading", "socket", "time", "os"}
CLOCKS = {"datetime.now", "datetime.utcnow", "date.today", "datetime.today"}


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def is_pure(path: Path) -> bool:
    """Whether the module's docstring says so."""
    return "Pure" in (ast.get_docstring(ast.parse(path.read_text())) or "")


def imports(tree: ast.AST) -> list[str]:
    """Return the full names of every module, and of what is imported from it."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "we import by full name"
            names.append(str(node.module))
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return names


PURE = [path for path in modules(*PACKAGES) if is_pure(path)]


def test_the_pure_modules_are_found():
    assert len(PURE) > 90


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_pure_module_knows_no_network_and_no_clock(path):
    tree = ast.parse(path.read_text())
    shells = [name for name in imports(tree) if name.split(".")[0] in SHELLS]
    assert not shells, f"{path.name} imports {shells}"
    calls = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert CLOCKS.isdisjoint(calls), f"{path.name} asks for the time"


@pytest.mark.parametrize("path", modules("streams"), ids=lambda path: path.stem)
def test_streams_does_not_know_who_reads_it(path):
    for imported in imports(ast.parse(path.read_text())):
        if imported.split(".")[0] in {"exporters", "alerts", "grafana"}:
            assert path == ROOT / "streams" / "cli.py", f"{path.name} imports {imported}"
