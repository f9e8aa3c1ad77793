"""A test module is a leaf: helpers that two of them need are in `tests/support/`."""

import ast

import pytest

from tests.support.paths import ROOT

FOLDERS = ("tests", "bench", "docs")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported_test_modules(source: str) -> list[str]:
    """Return the test modules and conftests that a module imports, also inside a function."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    # A relative import stays below tests/, so its last part decides as well.
    return [
        name
        for name in names
        if name.startswith(("tests.", "."))
        and any(part.startswith("test_") or part == "conftest" for part in name.split("."))
        and not name.startswith("tests.support.")
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import tests.slo.policy.test_policy",
        "from tests.slo.policy import test_policy",
        "def late():\n    from tests.slo.policy.test_policy import every_key",
        "from .test_policy import every_key",
        "from tests.conftest import servers",
    ],
)
def test_every_way_of_importing_a_test_module_is_found(source: str) -> None:
    assert imported_test_modules(source)


def test_no_module_imports_a_test_module() -> None:
    imports = {
        path.relative_to(ROOT).as_posix(): imported_test_modules(path.read_text())
        for path in MODULES
    }
    assert {name: modules for name, modules in imports.items() if modules} == {}
