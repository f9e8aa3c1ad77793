"""Records inside of further records: how to take them out, for `tokenpulse try`.

Pure. Log shippers, consoles of Kafka and cloud consoles put the record of a producer into a record
of their own, as JSON text in a member, in a list, or behind a time.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from streams.events.parser import UNREADABLE
from streams.sources.sql_mapping import Record

_MOST_WAYS = 8
_DEPTH = 4  # members and lists on the way to the record
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A time, a key or a stream, and then the record: nothing of it is JSON.
_PREFIX = re.compile(r"[^\[{\"]{1,200}?(?=\{\")")
_PRINT_REST_OF_LINES = "sed 's/^[^{]*//' {file}"


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Records inside of another record. `extraction`: a command that prints them, of `{file}`."""

    extraction: str
    records: list[Record]


def unwrap(records: Sequence[Record], is_list: bool = False) -> Iterator[Wrapped]:
    """Yield the records that may be inside of these, for each way that the first of them has.

    `is_list`: the file is a list of them.
    """
    texts = [record.readable_text for record in records]
    if not texts:
        return
    first = _decode(texts[0])
    if first is None:
        lines = [(_PREFIX.match(text), text) for text in texts]
        cut = [text[prefix.end() :] for prefix, text in lines if prefix is not None]
        if len(cut) > len(texts) / 2:
            yield Wrapped(_PRINT_REST_OF_LINES, _number_lines(cut))
        return
    start = ".[] | " if is_list and isinstance(first, dict) else ""
    for path in islice(_paths(first, ""), _MOST_WAYS):
        inner = [text for record in texts for text in _at(_decode(record), _steps(path))]
        if inner:
            yield Wrapped(f"jq -c '{start}{path}' {{file}}", _number_lines(inner))


def _number_lines(texts: Sequence[str]) -> list[Record]:
    return [Record(line, text).numbered(line) for line, text in enumerate(texts, 1)]


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except UNREADABLE:
        return None


def _paths(value: Any, path: str, depth: int = 0) -> Iterator[str]:
    """Yield the jq filters of all objects inside of a value, the outer ones first."""
    if depth > _DEPTH:
        return
    members: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        members = [(f"{path}.{name}", value[name]) for name in value if _NAME.fullmatch(name)]
    elif isinstance(value, list) and value:
        members = [(f"{path or '.'}[]", value[0])]
    for inner, member in members:
        if isinstance(member, str) and _of_text(member) is not None:
            yield f"{inner} | fromjson"
        elif isinstance(member, str) and _of_base64(member) is not None:
            yield f"{inner} | @base64d | fromjson"
        elif isinstance(member, dict) and inner.endswith("[]"):
            yield inner
    for inner, member in members:
        yield from _paths(member, inner, depth + 1)


def _of_text(text: str) -> str | None:
    stripped = text.strip()
    return stripped if isinstance(_decode(stripped), dict) else None


def _of_base64(text: str) -> str | None:
    try:
        return _of_text(base64.b64decode(text, validate=True).decode())
    except (binascii.Error, ValueError):
        return None


def _steps(path: str) -> list[str]:
    """Return a filter as its steps: names, `[]`, `fromjson` and `@base64d`."""
    way, *functions = path.split(" | ")
    return [*re.findall(r"\[\]|[A-Za-z_][A-Za-z0-9_]*", way), *functions]


def _at(value: Any, steps: Sequence[str]) -> Iterator[str]:
    """Yield the values at the end of the steps, as JSON; none if the way does not exist."""
    if not steps or steps[0] in ("fromjson", "@base64d"):
        text = value
        if steps and isinstance(value, str):
            text = _of_base64(value) if steps[0] == "@base64d" else _of_text(value)
            if text is not None:
                yield text
        elif not steps and value is not None:
            yield msgspec.json.encode(value).decode()
        return
    if steps[0] == "[]":
        for item in value if isinstance(value, list) else ():
            yield from _at(item, steps[1:])
    elif isinstance(value, dict) and steps[0] in value:
        yield from _at(value[steps[0]], steps[1:])
