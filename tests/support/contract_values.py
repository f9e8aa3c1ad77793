"""Values of single fields of an event, read with the standard library: see contract.py."""

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

DAY_MS = 86_400_000
FIRST_MS, LAST_MS = 1_420_070_400_000, 253_402_300_799_999  # 2015 to 9999
RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
Faults = list[tuple[str, str]]


class Rejected(Exception):
    """The reason for which a record is rejected."""


class Number(float):
    """A number written with a fraction or an exponent, and how it was written."""

    def __new__(cls, text: str) -> "Number":
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def whole_number(value: object) -> int | None:
    """Return an integer, also one written as 12.0."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Number):
        return int(value) if value.is_integer() and abs(value) <= 2**53 else None
    return value if isinstance(value, int) else None


def check_id(value: object) -> None:
    if value is None:
        raise Rejected("missing_field")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Rejected("bad_type")
    if value == "":
        raise Rejected("out_of_range")


def time_ms(value: object) -> int:
    if value is None:
        raise Rejected("missing_field")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Rejected("bad_type")
    time_ms = written_time_ms(value) if isinstance(value, str) else value
    if not FIRST_MS <= time_ms <= LAST_MS:
        raise Rejected("out_of_range")
    return time_ms


def written_time_ms(text: str) -> int:
    if (match := RFC_3339.fullmatch(text)) is None:
        raise Rejected("bad_type")
    date, minute, second, fraction, zone = match.groups()
    month, day = map(int, date.split("-")[1:])
    hour, minutes = map(int, minute.split(":"))
    zone_hour, zone_minutes = map(int, zone[1:].split(":")) if len(zone) > 1 else (0, 0)
    fits = 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minutes < 60
    if not fits or int(second) > 60 or zone_hour > 23 or zone_minutes > 59:
        raise Rejected("bad_type")
    leap = second == "60"
    try:
        text = f"{date}T{minute}:{'59' if leap else second}{zone.upper()}"
        moment = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Rejected("out_of_range") from None
    return int(moment.total_seconds()) * 1_000 + 1_000 * leap + int(((fraction or "") + "000")[:3])


def label(name: str, value: object, faults: Faults) -> str:
    if value is None or value == "":
        return "unknown"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        faults.append((name, "bad_type"))
        return "unknown"
    text = value.text if isinstance(value, Number) else str(value)
    label = re.sub("[^A-Za-z0-9._:/@ -]", "_", text)
    has_no_letter = label != text and not re.search("[A-Za-z]", label)
    if len(label) > 96 or label == "__other__" or has_no_letter:
        label = label[:87] + "-" + hashlib.sha256(text.encode()).hexdigest()[:8]
    if label != value:
        faults.append((name, "renamed"))
    return label


def customer(value: object, faults: Faults) -> str:
    if value is None or value == "":
        return "unknown"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        faults.append(("customer_id", "bad_type"))
        return "unknown"
    text = value.text if isinstance(value, Number) else str(value)
    if isinstance(value, Number) and (whole := whole_number(value)) is not None:
        text = str(whole)
    if len(text.encode()) > 512:
        faults.append(("customer_id", "out_of_range"))
        return "unknown"
    if text == "__other__":
        faults.append(("customer_id", "renamed"))
        return text + "-" + hashlib.sha256(text.encode()).hexdigest()[:8]
    return text


def flag(name: str, value: object, faults: Faults) -> bool | None:
    if value is not None and not isinstance(value, bool):
        faults.append((name, "bad_type"))
        return None
    return value


def choice(
    name: str, given: dict[str, Any], choices: tuple[str, ...], faults: Faults
) -> str | None:
    value = given.get(name)
    if value is None or value in choices:
        return value
    faults.append((name, "out_of_range" if isinstance(value, str) else "bad_type"))
    return None


def check_trace(value: object, faults: Faults) -> None:
    if value is not None and not (isinstance(value, str) and 1 <= len(value) <= 128):
        faults.append(("trace_id", "out_of_range" if isinstance(value, str) else "bad_type"))


def status(given: dict[str, Any], faults: Faults) -> int | None:
    value = given.get("status_code")
    if isinstance(value, str) and re.fullmatch("[0-9]{1,3}", value):
        faults.append(("status_code", "bad_type"))
        return int(value)
    whole = whole_number(value)
    if whole is None:
        if value is not None:
            faults.append(("status_code", "bad_type"))
        return None
    if not 0 <= whole <= 999:
        faults.append(("status_code", "out_of_range"))
        return None
    return whole


def has_error(given: dict[str, Any], faults: Faults) -> bool:
    value = given.get("error")
    if value is not None and not isinstance(value, str):
        faults.append(("error", "bad_type"))
    return bool(value)


def check_attempt_of(value: object, faults: Faults) -> None:
    if value is None or (
        isinstance(value, str | int) and not isinstance(value, bool) and value != ""
    ):
        return
    faults.append(("attempt_of", "out_of_range" if value == "" else "bad_type"))


def tokens(name: str, value: object, faults: Faults) -> int | None:
    whole = whole_number(value)
    if whole is None:
        if value is not None:
            faults.append((name, "bad_type"))
        return None
    if whole == -1:
        return None
    if not 0 <= whole <= 10**12:
        faults.append((name, "out_of_range"))
        return None
    return whole


def latency(name: str, value: object, faults: Faults) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        faults.append((name, "bad_type"))
        return None
    if value is None or value == -1:
        return None
    if not 0 <= value <= 7 * DAY_MS:
        faults.append((name, "out_of_range"))
        return None
    return float(value)
