"""docs/reliability.md tells of every fault once, and names only what exists."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from exporters.catalogue.requests import SPECS
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text()
COLUMNS = 6
FAULTS = 69


def rows() -> dict[str, list[str]]:
    """The cells of the table, by fault."""
    lines = [line for line in PAGE.splitlines() if re.match(r"\| F\d+ \|", line)]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert len({cell[0] for cell in cells}) == len(cells), "a fault has two rows"
    return {cell[0].strip(): cell for cell in cells}


TABLE = rows()


def test_every_fault_has_a_row_of_its_own() -> None:
    assert list(TABLE) == [f"F{number}" for number in range(1, FAULTS + 1)]
    assert {name: len(cells) for name, cells in TABLE.items() if len(cells) != COLUMNS} == {}
    assert all(all(cells) for cells in TABLE.values())


@pytest.mark.parametrize("fault", TABLE)
def test_a_fault_is_shown_by_a_test_or_the_page_says_why_it_cannot_be(fault: str) -> None:
    told = " ".join(TABLE[fault])
    assert "::" in TABLE[fault][4] or re.search(r"Not here: \w", told)


def named_tests() -> list[str]:
    return sorted(set(re.findall(r"`([\w/]*test_\w+\.py::\w+)`", PAGE)))


@pytest.mark.parametrize("named", named_tests())
def test_a_test_that_is_named_exists(named: str) -> None:
    file, _, name = named.partition("::")
    assert name in those_of(file)


def test_no_name_of_a_test_is_written_another_way() -> None:
    told = re.findall(r"[\w/]*\btest_\w+\.py\b(?:::\w+)?|::\w+", PAGE)
    assert {one for one in told if "::" in one} == set(named_tests())
    for file in told:
        assert (ROOT / "tests" / file.partition("::")[0]).is_file(), file


@cache
def those_of(file: str) -> frozenset[str]:
    """Names of the tests of a file: its own, and those it takes over from others."""
    found: set[str] = set()
    for node in ast.parse((ROOT / "tests" / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found.update(one.asname or one.name for one in node.names)
    return frozenset(name for name in found if name.startswith("test_"))


def test_every_metric_that_is_named_is_published() -> None:
    named = set(re.findall(r"`(tokenpulse_\w+)`", PAGE))
    assert named
    assert named <= {spec.name for spec in SPECS}


def test_every_alert_that_is_named_is_shipped() -> None:
    named = set(re.findall(r"`(Tokenpulse\w+)`", PAGE))
    assert named
    shipped = "".join(path.read_text() for path in (ROOT / "alerts" / "rules").glob("*.py"))
    assert {name for name in named if f'"{name}"' not in shipped} == set()


def test_every_setting_that_is_named_exists() -> None:
    settings = (ROOT / "docs/configuration.md").read_text()
    named = set(re.findall(r"`(?:kafka|redis|worker|exporter)\.([a-z_]+)`", PAGE))
    assert named
    assert {name for name in named - {"limits"} if f"| `{name}` |" not in settings} == set()


def quoted() -> list[str]:
    """What the log is said to tell, in the last column and in the known limits."""
    _, _, left = PAGE.partition("## Known limits")
    texts = [*(cells[-1] for cells in TABLE.values()), left]
    return sorted({said for text in texts for said in re.findall(r'"([^"]+)"', text)})


@pytest.mark.parametrize("said", quoted())
def test_what_the_log_is_said_to_tell_is_in_the_program(said: str) -> None:
    parts = [part for part in said.split("…") if part.strip(" :;,.")]
    assert parts
    assert any(is_told(parts, text) for text in texts())


def is_told(parts: list[str], text: str) -> bool:
    """Whether the parts stand in the text, in order."""
    at = 0
    for part in parts:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


@cache
def texts() -> tuple[str, ...]:
    """All texts in the worker's program; what is put into them later stands as a blank."""
    return tuple(
        text
        for path in sorted((ROOT / "streams").rglob("*.py"))
        for text in _texts(ast.parse(path.read_text()))
    )


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values
            )
