"""Attributes become numbers, names and flags.

Pure. Producers send one fact as a number, as text or as a list; a value without a meaning is None.
"""

import re
from urllib.parse import urlsplit

import msgspec

from streams.intake.otlp.spans import Attribute

# 15 digits are exact in a float, as which many readers of JSON hold numbers.
_INTEGER = re.compile(r"[0-9]{1,15}")
_MOST = 10**15
_STATUS = re.compile(r"[1-9][0-9]{2}")
# SDKs begin a message so; the rest may quote the request.
_MESSAGE_STATUS = re.compile(
    r"Error code: ([1-9][0-9]{2})\b"  # the SDK of OpenAI
    r"|([1-9][0-9]{2}) \w+\. \{"  # that of Google: 503 UNAVAILABLE. {'error': ...
)
_FLAGS = {"true": True, "false": False}


class Parameters(msgspec.Struct):
    """The two members of a call's parameters that are read: the rest may hold prompts."""

    stream: bool | None = None
    model: str | None = None


_PARAMETERS = msgspec.json.Decoder(Parameters)
_NO_PARAMETERS = Parameters()


def count(value: Attribute) -> int | None:
    """Return the whole number, 0 or above, that a number or text of digits stands for.

    None from 10**15 on: such a number is no count, and JSON could not carry it.
    """
    # Nearly all are whole numbers; `type`, as a bool is an int in Python, but no count.
    if type(value) is int:
        return value if 0 <= value < _MOST else None
    if isinstance(value, str):
        return int(value) if _INTEGER.fullmatch(value) else None
    if not isinstance(value, float) or not 0 <= value < _MOST:
        return None
    return int(value) if value.is_integer() else None


def number(value: Attribute) -> float | None:
    """Return the number, 0 or above, that a number or text of one stands for."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    elif type(value) is int:  # not of a bool
        return float(value) if 0 <= value < _MOST else None
    return value if isinstance(value, float) and 0 <= value < _MOST else None


def text(value: Attribute) -> str | None:
    """Return a text that is not empty."""
    return value if isinstance(value, str) and value else None


def host(value: Attribute) -> str | None:
    """Return a name, or the host of a URL: neither its port, nor login, path and query."""
    name = text(value)
    if name is None or "://" not in name:
        return name
    try:
        return urlsplit(name).hostname or None
    except ValueError:  # brackets that are no IPv6 address
        return None


def flag(value: Attribute) -> bool | None:
    """Return the flag; `True` and `true` as text are flags too."""
    if isinstance(value, bool):
        return value
    return _FLAGS.get(value.lower()) if isinstance(value, str) else None


def status(value: Attribute) -> int | None:
    """Return the HTTP status that a number or text of three digits stands for."""
    # `type` instead of isinstance: a bool is no status.
    if type(value) is int:
        return value if 100 <= value <= 999 else None
    return int(value) if isinstance(value, str) and _STATUS.fullmatch(value) else None


def status_of_message(value: Attribute) -> int | None:
    """Return the HTTP status in the message of an exception of the SDKs of OpenAI and Google."""
    match = _MESSAGE_STATUS.match(value) if isinstance(value, str) else None
    return int(match[1] or match[2]) if match else None


def finish_reason(value: Attribute) -> str | None:
    """Return the last finish reason, in small letters, of a list, JSON text of a list, or text."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = msgspec.json.decode(value, type=list[object])
        except msgspec.DecodeError:
            return None
    if isinstance(value, list):
        value = value[-1] if value and isinstance(value[-1], str) else None
    return value.strip().lower() or None if isinstance(value, str) else None


def parameters(value: Attribute) -> Parameters:
    """Return `stream` and `model` of the JSON text of a call's parameters."""
    if not isinstance(value, str):
        return _NO_PARAMETERS
    try:
        return _PARAMETERS.decode(value)
    except msgspec.DecodeError:
        return _NO_PARAMETERS
