"""Findings of pydantic in words, one line each: `origin: key: got value; fix`.

Pure.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streams.errors import ConfigError

Location = Sequence[str | int]
Model = TypeVar("Model", bound=BaseModel)

UNKNOWN_KIND = "unknown_kind"  # of a finding whose location a caller extended by an absent key

_SHOWN_MAX = 60
_KEYS = "write keys here"
_FIXES = {
    "dict_type": _KEYS,
    "invalid_key": "keys are text",
    "model_attributes_type": _KEYS,
    "model_type": _KEYS,
    "timezone_aware": "give an instant with its zone, such as 2026-01-31T00:00:00Z",
    "union_tag_not_found": _KEYS,
    "zoneinfo_str": "use an IANA name such as Europe/Berlin",
}
_INT_BITS = 4_096  # about 1,200 digits


def findings(
    details: Iterable[ErrorDetails],
    origin: str,
    unknown_key: str | Callable[[Location], str],
    document: Any = None,
    within: str = "",
    is_public: Callable[[Location], bool] = lambda location: True,
) -> Iterator[str]:
    """Return one line per finding of `ValidationError.errors`.

    `origin` names the document, usually its path. `unknown_key`: the fix for a key that does not
    exist. `document`: the validated data; without it the keys are taken as pydantic gives them,
    which includes names of its own for the members of a union. `within`: the document's place in a
    larger one. `is_public`: whether the value at a location may be shown.
    """
    for finding in details:
        location, given, kind = finding["loc"], finding["input"], finding["type"]
        if kind == "too_short" and given and not isinstance(given, str):
            continue  # pydantic counts only the valid entries, and each invalid one has its line
        where = (
            within + _place(location, document, kind in ("missing", UNKNOWN_KIND))
        ).removeprefix(".")
        got, fix = f"got {shown(given)}; ", _fix(finding)
        if kind == "missing":
            got, fix = "got nothing; ", "this key is required"
        elif (kind == "value_error" and isinstance(given, dict)) or not is_public(location):
            got = ""  # keys that contradict each other are named by the fix
        if kind == "extra_forbidden":
            fix = unknown_key if isinstance(unknown_key, str) else unknown_key(location)
        yield ": ".join(part for part in (origin, where, got + fix) if part)


def validated(model: type[Model], document: Any, origin: str, unknown_key: str) -> Model:
    """Return a document as a model. Raises ConfigError with a line for each of the `findings`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = findings(error.errors(), origin, unknown_key, document)
        raise ConfigError("\n".join(lines)) from error


def _fix(finding: ErrorDetails) -> str:
    kind = finding["type"]
    if kind in _FIXES:
        return _FIXES[kind]
    if kind == "too_short" and isinstance(finding["input"], str):  # of a secret
        return f"use at least {finding['ctx']['min_length']} characters"
    if kind == "too_short":
        return "write at least one"
    return finding["msg"].removeprefix("Value error, ").replace("Input", "it", 1)


def _place(location: Location, document: Any, is_absent: bool) -> str:
    """Return a location in the document's own keys, such as `.rules[2].model`.

    The names that pydantic adds for the members of a union are left out.
    """
    at, keys = document, []
    for index, part in enumerate(location):
        is_key = isinstance(at, dict) and part in at
        if is_key or (isinstance(at, list) and isinstance(part, int)):
            at = at[part]
        elif document is not None and not (is_absent and index == len(location) - 1):
            continue
        keys.append(f"[{part}]" if isinstance(part, int) else f".{part}")
    return "".join(keys)


def shown(value: Any) -> str:
    """Return a value for a message, at most about 60 characters long."""
    if value is None:
        return "nothing"
    text = ""
    # The rest of a large value is not written at all: it may be megabytes.
    for piece in _pieces(value, is_inside=False):
        text += piece
        if len(text) > _SHOWN_MAX:
            return f"{text[:_SHOWN_MAX]}..."
    return text


def _pieces(value: Any, is_inside: bool) -> Iterator[str]:
    """Yield the text of plain data piece by piece; `is_inside`: of a list or mapping."""
    if isinstance(value, str):
        yield repr(value[: _SHOWN_MAX + 1])
    elif isinstance(value, dict):
        yield "{"
        for at, (key, part) in enumerate(value.items()):
            yield f"{', ' if at else ''}{str(key)[:_SHOWN_MAX]!r}: "
            yield from _pieces(part, is_inside=True)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for at, part in enumerate(value):
            yield ", " if at else ""
            yield from _pieces(part, is_inside=True)
        yield "]"
    elif isinstance(value, int) and value.bit_length() > _INT_BITS:
        yield "a number of many digits"  # Python refuses to write it
    else:
        yield repr(value) if is_inside and not isinstance(value, Decimal) else str(value)
