"""Types of command-line options that several commands share."""

import re
from datetime import datetime
from typing import Any

import click

SECONDS_OF_UNIT = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Span(click.ParamType):
    """A length of time: `10s`, `5m`, `1h`, `1d`, or a number of seconds. Converts to seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return whole seconds, or fail with a usage error."""
        match = re.fullmatch(r"(\d+)([smhd]?)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a span; write 10s, 5m, 1h or 1d", param, ctx)
        return int(match[1]) * SECONDS_OF_UNIT[match[2]]


class Instant(click.ParamType):
    """An instant: RFC 3339 with a zone, or seconds since the epoch. Converts to whole seconds."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return whole seconds since the epoch, or fail with a usage error."""
        text = str(value)
        if re.fullmatch(r"\d+", text):
            return int(text)
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            instant = None
        # Without a zone the same text means another instant on another machine.
        if instant is None or instant.tzinfo is None:
            self.fail(f"{text!r}: write 2026-01-31T12:00:00Z or seconds since 1970", param, ctx)
        return int(instant.timestamp())
