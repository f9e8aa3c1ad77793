"""pyproject.toml declares exactly the distributions that the packages import."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("streams", "slo", "exporters", "alerts", "grafana", "tokenpulse")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Generates the dashboards from source; an installed Tokenpulse does not need it.
ONLY_DEVELOPMENT = {"grafana-foundation-sdk"}
# The standard library's zoneinfo reads it.
IMPORTED_BY_OTHERS = {"tzdata"}


def normal(name: str) -> str:
    """Return a distribution's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^A-Za-z0-9._-]", text)[0]) for text in requirements}


def imported() -> set[str]:
    """Return the distributions behind all imports of other projects."""
    modules: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    modules.add(str(node.module).split(".")[0])
    foreign = modules - set(PACKAGES) - sys.stdlib_module_names
    distributions = packages_distributions()
    return {normal(name) for module in foreign for name in distributions[module]}


def test_every_imported_distribution_is_declared_and_every_declared_one_imported() -> None:
    extras = PROJECT["optional-dependencies"]
    expected = declared(PROJECT["dependencies"]) | declared(extras["local"]) | ONLY_DEVELOPMENT
    assert declared(extras["dev"]) >= ONLY_DEVELOPMENT
    assert imported() | IMPORTED_BY_OTHERS == expected
