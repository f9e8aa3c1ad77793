"""Pieces of the SQL that a mapping in YAML is translated to: literals, paths and expressions."""

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from streams.events.epoch import UNITS, Unit

Case = tuple[str, str]  # a condition and its result


def select_lines(first: str, columns: Mapping[str, str], table: str, indent: str) -> list[str]:
    """Return the lines of a SELECT."""
    items = [first, *(f"{sql} AS {name}" for name, sql in columns.items())]
    margin = f"\n{indent}       "
    listed = f",{margin}".join(item.replace("\n", f"{margin}    ") for item in items)
    return [f"{indent}SELECT {listed}", f"{indent}FROM {table}"]


def case_of(cases: Sequence[Case], otherwise: str) -> str:
    """Return the CASE of these conditions; `otherwise` alone if there are none."""
    if not cases:
        return otherwise
    whens = "".join(f"\nWHEN {condition} THEN {result}" for condition, result in cases)
    return f"CASE{whens}\nELSE {otherwise} END"


def paths_of(parts: Sequence[str]) -> list[list[str]]:
    """Return the ways to read dotted parts as names, the longest first names first."""
    paths = []
    for count in range(len(parts)):
        for cuts in combinations(range(1, len(parts)), count):
            edges = [0, *cuts, len(parts)]
            path = [".".join(parts[a:b]) for a, b in pairwise(edges)]
            paths.append(path)
    return sorted(paths, key=lambda path: [-len(name.split(".")) for name in path])


def extract_all(root: str, paths: Sequence[str]) -> str:
    """Return the list of the JSON values at the literals of paths."""
    listed = ",\n".join(paths)
    return f"json_extract({root}, [\n{listed}])"


def path_literal(path: Sequence[str]) -> str:
    """Return the literal of a JSON path of names."""
    names = [name.replace("\\", "\\\\").replace('"', '\\"') for name in path]
    return text_literal("$" + "".join(f'."{name}"' for name in names))


def number_in_ms(json_sql: str, unit: Unit) -> str:
    """Return the number of a unit in milliseconds."""
    multiplier, divisor = UNITS[unit]
    if divisor > 1:
        return f"number_divided({json_sql}, {divisor})"
    return f"number_of({json_sql})" + (f" * {multiplier}" if multiplier > 1 else "")


def literal(value: Any) -> str:
    """Return a value of a field as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    return text_literal(value) if isinstance(value, str) else number_literal(value)


def number_literal(value: float) -> str:
    """Return a number as SQL: an integer, or a DOUBLE."""
    # A number with an exponent is a DOUBLE, one without may be a DECIMAL.
    text = repr(value)
    return text if isinstance(value, int) or "e" in text else f"{text}e0"


def text_literal(text: str) -> str:
    """Return a text as SQL."""
    quoted = "'" + text.replace("'", "''") + "'"
    # The lines of a query are indented, which must not change a text of several lines.
    if "\n" in quoted:
        quoted = "E" + quoted.replace("\\", "\\\\").replace("\n", "\\n")
    return quoted


def text_literals(texts: Sequence[str]) -> str:
    """Return texts as SQL, with commas between them."""
    return ", ".join(map(text_literal, texts))
