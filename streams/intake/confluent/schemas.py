"""A schema with its imports, and the decoder that it becomes.

Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from streams.errors import one_line

_REASON_MAX = 200

# From the path of the message and the payload to one JSON value. Raises MalformedRecord.
Decode = Callable[[tuple[int, ...], bytes], bytes]


class UnusableSchema(ValueError):
    """A schema that cannot be read; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The text of a schema, and the texts that it imports by name, imported ones first."""

    text: str
    imports: Mapping[str, str] = field(default_factory=dict)


def short(error: object) -> str:
    """Return the message of a compiler or parser, which may quote the schema, in one short line."""
    return one_line(error)[:_REASON_MAX]
