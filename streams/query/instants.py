"""Instants as RFC 3339 text in UTC, as reports write them. Pure."""

from datetime import UTC, datetime

LAST_S = 253_402_300_799  # RFC 3339 has no year after 9999


def rfc3339(at_s: int) -> str:
    """Return seconds since the epoch as `2026-01-31T12:00:00Z`.

    An instant before 1970, or after the year 9999, is written as the first or last one between.
    """
    return datetime.fromtimestamp(min(max(0, at_s), LAST_S), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_ms(at_ms: int) -> str:
    """Return milliseconds since the epoch as `2026-01-31T12:00:00.000Z`."""
    seconds, ms = divmod(at_ms, 1_000)
    return f"{rfc3339(seconds)[:-1]}.{ms:03}Z"
