"""Types of command-line options that several commands share."""

import getpass
import math
import os
import re
import time
import unicodedata
from datetime import datetime
from typing import Any

import click

from streams.config.validation import shown
from streams.query.instants import LAST_S

LONGEST_SPAN_S = 3_650 * 86_400
SECONDS_OF_UNIT = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


class TimeSpan(click.ParamType):
    """A length of time: `10s`, `5m`, `1h`, `1d`, or a number of seconds. Converts to seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return whole seconds, or fail with a usage error."""
        # Python refuses to convert thousands of digits, and no span of use needs more than nine.
        match = re.fullmatch(r"(\d{1,9})([smhd]?)", str(value))
        if match is None:
            self.fail(f"{shown(value)} is not a span; write 10s, 5m, 1h or 1d", param, ctx)
        span_s = int(match[1]) * SECONDS_OF_UNIT[match[2]]
        if span_s > LONGEST_SPAN_S:
            self.fail(f"{value} is longer than ten years; write less", param, ctx)
        return span_s


class PositiveNumber(click.ParamType):
    """A number above 0, and neither infinite nor NaN, which comparisons let pass."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or fail with a usage error."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 < number < math.inf:
            self.fail(f"{shown(value)}: write a number above 0", param, ctx)
        return number


class Instant(click.ParamType):
    """An instant: RFC 3339 with a zone, seconds since the epoch, `now`, or `-5m` before now.

    Converts to whole seconds since the epoch.
    """

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return whole seconds since the epoch, or fail with a usage error."""
        text = str(value)
        if text == "now":
            at_s = int(time.time())
        elif text.startswith("-") and text[1:2].isdigit():
            at_s = int(time.time()) - TimeSpan().convert(text[1:], param, ctx)
        elif re.fullmatch(r"\d{1,18}", text):
            at_s = int(text)
        else:
            try:
                instant = datetime.fromisoformat(text)
            except ValueError:
                instant = None
            # Without a zone the same text means another instant on another machine.
            if instant is None or instant.tzinfo is None:
                self.fail(
                    f"{shown(text)}: write 2026-01-31T12:00:00Z, seconds since 1970, now, or -5m",
                    param,
                    ctx,
                )
            at_s = int(instant.timestamp())
        if not 0 <= at_s <= LAST_S:
            hint = "; seconds are meant, not milliseconds" if at_s > LAST_S else ""
            self.fail(
                f"{shown(text)}: write an instant from 1970 to the year 9999{hint}", param, ctx
            )
        return at_s


def terminal_user() -> str:
    """Return the user of the terminal, or their number if they have no name, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class Words(click.ParamType):
    """A text that other people will read: UTF-8, without control characters."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text, or fail with a usage error. Line breaks are allowed."""
        text = str(value)
        # The shell passes bytes that are not UTF-8 as lone surrogates, which cannot be stored.
        if any(unicodedata.category(letter) == "Cs" for letter in text):
            self.fail(f"{ascii(text)[:60]} is not UTF-8; write plain text", param, ctx)
        # A terminal obeys control characters: it would change colours, or erase lines.
        if any(unicodedata.category(letter) == "Cc" and letter != "\n" for letter in text):
            self.fail(f"{ascii(text)[:60]} has control characters; leave them out", param, ctx)
        if not text.strip():
            self.fail("it is empty; write some words", param, ctx)
        return text


AUTHOR = click.option(
    "--author",
    type=Words(),
    default=terminal_user,
    help="Author of the decision; default: the user of the terminal.",
)
