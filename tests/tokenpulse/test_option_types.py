"""Values of options: spans, instants, numbers, and texts that other people read."""

import getpass
import os
import time
from typing import Any

import click
import pytest

from tokenpulse.option_types import Instant, PositiveNumber, TimeSpan, Words, terminal_user


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (TimeSpan(), "90", 90),
        (TimeSpan(), "2h", 7_200),
        (TimeSpan(), "3650d", 3_650 * 86_400),
        (Instant(), "1760000000", 1_760_000_000),
        (Instant(), "1970-01-01T01:00:00+01:00", 0),
        (Instant(), "253402300799", 253_402_300_799),
        (PositiveNumber(), "0.5", 0.5),
        (Words(), "Müller\nand 你好", "Müller\nand 你好"),
    ],
)
def test_a_value_is_converted(kind: click.ParamType, text: str, value: Any) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        (TimeSpan(), "1" * 5_000, "write 10s, 5m, 1h or 1d"),
        (TimeSpan(), "3651d", "longer than ten years"),
        (Instant(), "1760000000000", "seconds are meant, not milliseconds"),
        (Instant(), "253402300800", "seconds are meant, not milliseconds"),
        (Instant(), "1969-12-31T23:59:59Z", "from 1970 to the year 9999"),
        (Instant(), "2026-01-01", "write 2026-01-31T12:00:00Z"),
        *((PositiveNumber(), text, "above 0") for text in ("nan", "inf", "0", "-1", "x")),
        (Words(), "a\x1b[2J", "control characters"),
        (Words(), "a\udcff", "not UTF-8"),
        *((Words(), text, "it is empty") for text in ("", " ", "\n")),
    ],
)
def test_a_value_that_cannot_be_used_names_the_fix(
    kind: click.ParamType, text: str, hint: str
) -> None:
    with pytest.raises(click.BadParameter) as error:
        kind.convert(text, None, None)
    assert hint in error.value.message
    assert error.value.message.isprintable()
    assert len(error.value.message) < 200


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", fail)
    assert terminal_user() == str(os.getuid())


@pytest.mark.parametrize(("text", "ago_s"), [("now", 0), ("-5m", 300), ("-2h", 7_200), ("-90", 90)])
def test_an_instant_may_be_given_by_its_distance_from_now(text: str, ago_s: int) -> None:
    now_s = int(time.time())
    assert 0 <= Instant().convert(text, None, None) - (now_s - ago_s) <= 5


@pytest.mark.parametrize("text", ["-", "-m", "--5m", "-5y", "now-5m"])
def test_other_words_for_an_instant_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write|span"):
        Instant().convert(text, None, None)
