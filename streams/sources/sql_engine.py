"""A DuckDB that runs one SELECT of an operator, cut off from files, network and extensions.

Time and memory are bounded: a query that runs longer than its limit is interrupted, and one that
needs more than `MEMORY_LIMIT` fails. An engine is not for use by two threads at once.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import duckdb
import numpy as np
from duckdb.func import FunctionNullHandling
from duckdb.sqltypes import VARCHAR
from numpy.typing import NDArray

from streams.events.epoch import EARLIEST_MS, LATEST_MS, UNIT_NAMES, UNITS
from streams.events.error_texts import ERROR_TEXTS
from streams.events.fields import MAX_LABEL, MAX_TIME_MS, STATUS_OUTCOMES
from streams.sources.conversion import HALF_MICROSECOND_MS, parse_time
from streams.sources.files import INFINITE_TEXTS
from streams.sources.sql_text import text_literals

MEMORY_LIMIT = "512MB"
TIME_LIMIT_S = 10.0  # for one batch
_INTERRUPT_EVERY_S = 0.05
# In this order: the last one makes all of them final.
SETTINGS = (
    "autoinstall_known_extensions=false",
    "autoload_known_extensions=false",
    "allow_community_extensions=false",
    "python_enable_replacements=false",
    "threads=1",
    f"memory_limit='{MEMORY_LIMIT}'",
    "temp_directory=''",
    "TimeZone='UTC'",
    "enable_external_access=false",
    "lock_configuration=true",
)
# These build one text or list as large as a number in the query: the memory limit does not see it,
# and an interrupt does not end it. In FROM, `range` and `generate_series` give rows one by one.
UNBOUNDED = frozenset(
    {
        *("repeat", "lpad", "rpad", "range", "generate_series", "list_resize", "array_resize"),
        *("bitstring", "bar", "printf", "format"),
    }
)
# A record that is read again must give the same event, so that it is recognised as a duplicate.
CLOCK_WORDS = frozenset(  # written like a column, without brackets
    {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
)
UNREPEATABLE = CLOCK_WORDS | {
    *("now", "today", "current_localtime", "current_localtimestamp", "get_current_time"),
    *("get_current_timestamp", "transaction_timestamp", "random", "setseed", "uuid", "uuidv4"),
    *("uuidv7", "gen_random_uuid", "nextval", "currval", "txid_current"),
}


class QueryStopped(Exception):
    """The query ran longer than its time limit and was interrupted."""


class LockedDatabase:
    """A locked database in memory, with the shipped macros.

    Its start takes most of the time to load a mapping. Engines may share one: each has its own
    tables, but the memory limit is that of all queries that run at the same time.
    """

    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:")
        # DuckDB's own functions move a local time that the clocks skip, and have other patterns.
        self._connection.create_function(
            "parse_time",
            parse_time,
            [VARCHAR] * 3,
            VARCHAR,
            null_handling=FunctionNullHandling.SPECIAL,
        )
        self._connection.execute(_contract_macros())
        for name in ("macros.sql", "values.sql"):
            self._connection.execute((files(__package__) / name).read_text())
        for setting in SETTINGS:
            # Without GLOBAL, time zone and replacements are those of this one connection.
            self._connection.execute(f"SET GLOBAL {setting}")

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Return a new connection with the same macros and settings."""
        return self._connection.cursor()


@cache
def _shared_database() -> LockedDatabase:
    return LockedDatabase()


class SqlEngine:
    """One connection to a locked database: by default to one that the whole process shares."""

    def __init__(self, database: LockedDatabase | None = None) -> None:
        self._connection = (database or _shared_database()).connect()

    def is_select(self, sql: str) -> bool:
        """Return whether the text is exactly one SELECT. Raises duckdb.Error for bad syntax."""
        statements = self._connection.extract_statements(sql)
        return len(statements) == 1 and statements[0].type == duckdb.StatementType.SELECT

    def forbidden(self, sql: str) -> str | None:
        """Return why a SELECT is refused, with the forbidden function; None if it is not."""
        [[text]] = self._connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        tree = json.loads(text)
        if tree["error"]:  # without the tree no function can be checked
            return str(tree["error_message"])
        for node, in_from in _nodes(tree):
            name = str(node.get("function_name", "")).lower()
            if name in UNBOUNDED and not in_from:
                return f"{name} is not available in mappings"
            words = {str(word).lower() for word in node.get("column_names") or ()}
            if called := ({name} & UNREPEATABLE) | (words & CLOCK_WORDS):
                return f"{min(called)}: a record must give the same event whenever it is read"
        return None

    def define(self, view: str, select: str) -> None:
        """Create or replace a view."""
        self._connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {select}")

    def load(self, table: str, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Make arrays of equal length available to queries as a table, without a copy."""
        self._connection.register(table, dict(columns))

    def columns(self, sql: str) -> dict[str, str]:
        """Return the names and types of a query's columns.

        The query runs, as some faults show only then. Raises QueryStopped and duckdb.Error.
        """
        self.rows(sql)
        return {name: str(kind) for name, kind, *_ in self._connection.description or ()}

    def rows(self, sql: str, limit_s: float = TIME_LIMIT_S) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Raises QueryStopped, and duckdb.Error if a row fails."""
        finished = threading.Event()
        # execute() blocks this thread, so that another one has to interrupt it.
        watch = threading.Thread(target=self._interrupt, args=(finished, limit_s), daemon=True)
        watch.start()
        try:
            return self._connection.execute(sql).fetchall()
        except (duckdb.InterruptException, RuntimeError) as error:
            # DuckDB raises RuntimeError if the interrupt comes before the query runs.
            if "interrupt" not in str(error).lower():
                raise
            raise QueryStopped(f"ran longer than {limit_s:g} s") from error
        finally:
            # An interrupt that comes later would end the next query.
            finished.set()
            watch.join()

    def _interrupt(self, finished: threading.Event, limit_s: float) -> None:
        """Interrupt the query that runs after `limit_s`, until it is finished."""
        pause_s = limit_s
        while not finished.wait(pause_s):
            self._connection.interrupt()
            # DuckDB forgets an interrupt that comes while it plans the query.
            pause_s = _INTERRUPT_EVERY_S


def _nodes(tree: Any) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each object of a syntax tree, and whether it is a function in a FROM."""
    waiting = [(tree, False)]
    while waiting:
        node, in_from = waiting.pop()
        if isinstance(node, dict):
            yield node, in_from
            is_table = node.get("type") == "TABLE_FUNCTION"
            waiting += [(child, is_table and key == "function") for key, child in node.items()]
        elif isinstance(node, list):
            waiting += [(child, False) for child in node]


def _contract_macros() -> str:
    """Return the CREATE MACRO statements that repeat facts of the event contract."""
    return "\n".join(
        (
            *(_epoch_ms_of(), _units(), _counted_at(), _label(), _status_outcome()),
            _error_text_outcome(),
        )
    )


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


def _units() -> str:
    """Return the macros that say whether milliseconds, or a number of any unit, are a time."""
    cases = " ".join(
        f"WHEN n * {multiplier} / {divisor} BETWEEN {EARLIEST_MS} AND {LATEST_MS} "
        f"THEN '{UNIT_NAMES[unit]}: set time.unit to {unit}'"
        for unit, (multiplier, divisor) in UNITS.items()
    )
    return (
        f"CREATE MACRO is_of_century(ms) AS ms BETWEEN {EARLIEST_MS} AND {LATEST_MS};\n"
        f"CREATE MACRO unit_of_epoch(n) AS CASE {cases} END;"
    )


def _counted_at() -> str:
    """Return the macro from milliseconds after `start` to the time of an event, as JSON."""
    # Text of a time, unlike a number, is not searched for another unit.
    at = f"floor(ms + {HALF_MICROSECOND_MS})::BIGINT + start"
    return (
        f"CREATE MACRO counted_at(ms, start) AS CASE WHEN ms + start > -1 "
        f"AND ms + start < {MAX_TIME_MS + 1} THEN to_json(make_timestamptz(({at}) * 1000)) "
        "ELSE unusable(ms + start, 'write milliseconds after 1970, to the year 9999') END;"
    )


def _label() -> str:
    """Return the macro that makes a name of the contract: the last part of a long path."""
    return (
        "CREATE MACRO label(x) AS nullif(left(regexp_replace("
        f"CASE WHEN length(x) > {MAX_LABEL} THEN regexp_extract(x, '[^/]*$') "
        f"WHEN x IN ({text_literals(INFINITE_TEXTS)}) THEN NULL ELSE x END, "
        f"'[^A-Za-z0-9._:/@ -]', '_', 'g'), {MAX_LABEL}), '');"
    )


def _status_outcome() -> str:
    """Return the macro from an HTTP status to the outcome of the contract's table."""
    cases = " ".join(
        f"WHEN s BETWEEN {first} AND {last} THEN '{outcome}'"
        for first, last, outcome in STATUS_OUTCOMES
    )
    return f"CREATE MACRO status_outcome(s) AS CASE {cases} END;"


def _error_text_outcome() -> str:
    """Return the macro from the text of an error to its outcome; of an unknown one the server's."""
    cases = " ".join(
        f"WHEN regexp_matches(e, '(?i){pattern}') THEN '{outcome}'"
        for pattern, outcome, _ in ERROR_TEXTS
    )
    return f"CREATE MACRO error_text_outcome(e) AS CASE {cases} ELSE 'server_error' END;"
