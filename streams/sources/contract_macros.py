"""The macros that repeat a fact of the event contract, built from the contract itself."""

from streams.events.epoch import EARLIEST_MS, LATEST_MS, UNITS
from streams.events.fields import MAX_LABEL, STATUS_OUTCOMES


def contract_macros() -> str:
    """Return the CREATE MACRO statements of `epoch_ms_of`, `label` and `status_outcome`."""
    return "\n".join((_epoch_ms_of(), _label(), _status_outcome()))


def _epoch_ms_of(argument: str = "x") -> str:
    """Return the macro from a number of any unit, or RFC 3339 text, to epoch milliseconds."""
    # As JSON a value may be a text or a number: `#>> '$'` makes plain text of both.
    cases = " ".join(
        f"WHEN n * {multiplier} / {divisor} BETWEEN {EARLIEST_MS} AND {LATEST_MS} "
        f"THEN n * {multiplier} / {divisor}"
        for multiplier, divisor in UNITS.values()
    )
    return (
        "CREATE MACRO number_epoch_ms(n) AS CASE " + cases + " END;\n"
        f"CREATE MACRO epoch_ms_of({argument}) AS coalesce("
        f"number_epoch_ms(try_cast({argument}::VARCHAR AS DOUBLE)), "
        f"epoch_us(try_cast({argument}::VARCHAR AS TIMESTAMPTZ)) / 1000);"
    )


def _label() -> str:
    """Return the macro that makes a name of the contract: the last part of a long path."""
    return (
        "CREATE MACRO label(x) AS nullif(left(regexp_replace("
        f"CASE WHEN length(x) > {MAX_LABEL} THEN regexp_extract(x, '[^/]*$') ELSE x END, "
        f"'[^A-Za-z0-9._:/@ -]', '_', 'g'), {MAX_LABEL}), '');"
    )


def _status_outcome() -> str:
    """Return the macro from an HTTP status to the outcome of the contract's table."""
    cases = " ".join(
        f"WHEN s BETWEEN {first} AND {last} THEN '{outcome}'"
        for first, last, outcome in STATUS_OUTCOMES
    )
    return f"CREATE MACRO status_outcome(s) AS CASE {cases} END;"
