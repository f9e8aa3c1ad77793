"""What options of the commands take: lengths of time, and instants."""

import re
from datetime import datetime
from typing import Any

import click


class Span(click.ParamType):
    """A length of time: `10s`, `5m`, `1h`, `1d`, or a number of seconds. Gives seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click."""
        found = re.fullmatch(r"(\d+)([smhd]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is not a span; write 10s, 5m, 1h or 1d", param, ctx)
        return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}[found[2]]


class Instant(click.ParamType):
    """An instant: RFC 3339 with a zone, or seconds since the epoch. Gives whole seconds."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See click."""
        text = str(value)
        if re.fullmatch(r"\d+", text):
            return int(text)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            found = None
        if found is None or found.tzinfo is None:
            self.fail(f"{text!r}: write 2026-01-31T12:00:00Z or seconds since 1970", param, ctx)
        return int(found.timestamp())
