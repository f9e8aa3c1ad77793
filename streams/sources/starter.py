"""Draft a mapping for a file that no shipped one reads, by its columns and their first values."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec

from streams.events.parser import UNREADABLE
from streams.sources.conversion import is_local_time
from streams.sources.sql_mapping import Record

# Usual names of each field's column, preferred ones first; lower case, without signs between words.
_NAMES = {
    "request_id": "requestid|xrequestid|requestuid|callid|traceid|spanid|uuid|id",
    "model": "responsemodel|model|modelname|requestmodel|deployment|engine",
    "outcome": "outcome",
    "status_code": "statuscode|httpstatus|responsecode|responsestatus|status|code",
    "error": "errortype|errorclass|error|errormessage|exception",
    "region": "region|location|zone",
    "channel": "provider|providername|channel|backend",
    "customer_id": "customerid|customer|tenant|tenantid|team|teamid|orgid|userid|user|apikey",
    "stream": "stream|streaming|isstream|streamed",
    "ttft_ms": "ttft|timetofirsttoken|firsttoken|firsttokenlatency|firsttokentime|timetofirstchunk"
    "|firstbyte|ttfb",
    "duration_ms": "duration|latency|e2elatency|responsetime|elapsed|totaltime|requesttime|took",
    "input_tokens": "inputtokens|prompttokens|tokensin|promptlen|inputlen|prompt|contexttokens",
    "cached_input_tokens": "cachedinputtokens|cachedtokens|cachereadinputtokens|cachehittokens",
    "output_tokens": "outputtokens|completiontokens|tokensout|generatedtokens|completion|outputlen",
    "reasoning_tokens": "reasoningtokens|thinkingtokens",
}
_END = "endedat|endtime|end|finishedat|completedat|timestamp|time|ts|date|createdat|logtime"
_START = "starttime|startedat|start|arrival|arrivedat|receivedat"
# Words at the end of a column's name, and what makes milliseconds of its number.
_UNITS = {
    **dict.fromkeys(("ms", "millis", "milliseconds"), ""),
    **dict.fromkeys(("s", "sec", "secs", "seconds"), " * 1000"),
    **dict.fromkeys(("us", "micros", "microseconds"), " / 1000"),
    **dict.fromkeys(("ns", "nanos", "nanoseconds"), " / 1000000"),
}
_CAMEL_UNIT = re.compile(r"(?<=[a-z])(Ms|Us|Ns|Sec|Seconds|Millis)$")
_FAILURE = ("status_code", "error")  # the fields that decide the outcome without `outcome`
_RECORDS, _DEPTH, _UNUSED_MAX = 50, 4, 30
# Texts that exports write in place of a value; lower case.
_NO_VALUE = {"null", "none", "nan", "nil", "n/a", "na", "-", "\\n"}
_SUCCESS = ("ok", "success", "successful", "succeeded", "completed", "complete")
# Half of the answers of a model take longer than 10 ms, so smaller numbers are seconds.
_SECONDS_BELOW = 10


@dataclass(frozen=True, slots=True)
class _Column:
    """A value in the records: the members that lead to it, and the words of its name.

    `values`: its distinct ones in the first records, as text.
    """

    path: tuple[str, ...]
    values: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The words of the last name. A unit may be one: latency_ms, latencyMs."""
        name = _CAMEL_UNIT.sub(r"_\1", self.path[-1])
        return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]

    @property
    def positive(self) -> list[float]:
        """The numbers above 0: answers that were never begun often have 0."""
        numbers = map(_number, self.values)
        return [number for number in numbers if number is not None and number > 0]

    @property
    def is_in_seconds(self) -> bool:
        """True if the name has no unit, and the numbers are too small for milliseconds."""
        has_unit = bool(self.words) and self.words[-1] in _UNITS
        return not has_unit and bool(self.positive) and median(self.positive) < _SECONDS_BELOW

    @property
    def has_words(self) -> bool:
        """True if a value is neither a number nor a text for no value."""
        return any(
            text and _number(text) is None and text.lower() not in _NO_VALUE for text in self.values
        )

    @property
    def is_local_time(self) -> bool:
        """True if a value is a date and time without a zone."""
        return any(is_local_time(text) for text in self.values)

    @property
    def factor(self) -> str:
        if self.is_in_seconds:
            return _UNITS["s"]
        return _UNITS.get(self.words[-1], "") if self.words else ""

    def names(self) -> Iterator[str]:
        """Yield the names under which the column may be wanted: without its unit and its prefix."""
        words = self.words
        if words and words[-1] in _UNITS:
            yield "".join(words[:-1])
        # gen_ai.usage.input_tokens is also input_tokens.
        last = re.split(r"[^a-z0-9]+", self.path[-1].rpartition(".")[2].lower())
        yield from ("".join(words), "".join(last))

    @property
    def text(self) -> str:
        """The SQL of the value as text; null for the texts of no value that the sample has."""
        sql = self.member
        for text in self.values:
            if text.lower() in _NO_VALUE:
                sql = f"nullif({sql}, '{text}')"
        return sql

    @property
    def member(self) -> str:
        """The SQL of the value as it is written."""
        path = self.path[0]
        # DuckDB takes a text that begins with $ or / for a path.
        if len(self.path) > 1 or path.startswith(("$", "/")):
            path = "$" + "".join(f'."{name}"' for name in self.path)
        quoted = path.replace("'", "''")
        return f"r->>'{quoted}'"

    @property
    def milliseconds(self) -> str:
        return f"try_cast({self.text} AS DOUBLE){self.factor}"


def starter(sample: Sequence[Record]) -> str:
    """Return a mapping in SQL that uses those columns of the records whose names are clear."""
    columns = _columns(sample)
    by_name: dict[str, _Column] = {}
    for column in columns:
        for name in column.names():
            by_name.setdefault(name, column)
    chosen = {field: match for field, names in _NAMES.items() if (match := _first(by_name, names))}
    end, start = _first(by_name, _END), _first(by_name, _START)
    selected = _expressions(chosen, end, start)
    used = {*chosen.values(), end or start}
    unused = [column.member for column in columns if column not in used][:_UNUSED_MAX]
    times = [column for field, column in chosen.items() if field.endswith("_ms")]
    absent = []
    if (at := end or start) and at.is_local_time:
        absent.append(
            f"times without a zone are read as UTC; for another one: {at.member} || '+01:00'"
        )
    if not (end or start):
        absent.append("no column has a time: select it as ended_at")
    if not any(name in chosen for name in ("outcome", *_FAILURE)):
        absent.append("no column says how a request ended: all are successes")
    return "".join(
        (
            "-- about: draft: check each column, and the units of times\n",
            *(
                f"-- in seconds, by its numbers: {time.member}\n"
                for time in times
                if time.is_in_seconds
            ),
            *(f"-- {problem}\n" for problem in absent),
            *(f"-- not used: {text}\n" for text in unused),
            "SELECT line",
            *(f",\n       {expression} AS {field}" for field, expression in selected.items()),
            "\nFROM records\n",
        )
    )


def _first(by_name: Mapping[str, _Column], names: str) -> _Column | None:
    return next((by_name[name] for name in names.split("|") if name in by_name), None)


def _expressions(
    chosen: Mapping[str, _Column], end: _Column | None, start: _Column | None
) -> dict[str, str]:
    """Return the expression of each field."""
    at = end or start
    # In the order in which a person checks them: time and model first.
    selected = {"ended_at": "NULL"}
    if at:
        ended_at = f"epoch_ms_of({at.text})"
        # Only the start is known: the end lies a duration later.
        if end is None and "duration_ms" in chosen:
            ended_at += f" + {chosen['duration_ms'].milliseconds}"
        selected["ended_at"] = _or_report(ended_at, at, "write RFC 3339, or a number since 1970")
    selected["model"] = "'unknown'"
    for field, column in chosen.items():
        if field not in _FAILURE:
            selected[field] = column.milliseconds if field.endswith("_ms") else column.text
    if "outcome" not in chosen:
        selected["outcome"] = _outcome(chosen.get("status_code"), chosen.get("error"))
    return selected


def _outcome(status: _Column | None, error: _Column | None) -> str:
    """Return the SQL of the outcome by a status and an error.

    A record without a status has no outcome, and is reported: often nothing answered in time.
    """
    if status is None:
        return "'success'" if error is None else f"coalesce(error_outcome({error.text}), 'success')"
    outcome = f"outcome_of({status.text}, {error.text if error else 'NULL'})"
    if not status.has_words:
        return _or_report(outcome, status, "write an HTTP status")
    words = ", ".join(f"'{word}'" for word in _SUCCESS)
    success = f"CASE WHEN lower({status.text}) IN ({words}) THEN 'success' END"
    return f"coalesce({outcome}, {success}, error_outcome({status.text}))"


def _or_report(value: str, column: _Column, fix: str) -> str:
    """Return the SQL of a value; what the column has instead is reported with the fix."""
    return f"coalesce(to_json({value}), unusable({column.text}, '{fix}'))"


def _columns(sample: Sequence[Record]) -> list[_Column]:
    """Return all plain values in the first records, in their order."""
    values: dict[tuple[str, ...], dict[str, None]] = {}
    for record in sample[:_RECORDS]:
        try:
            leaves = list(_leaves(msgspec.json.decode(record.value), ()))
        except UNREADABLE:
            continue
        for path, value in leaves:
            texts = values.setdefault(path, {})
            if isinstance(value, str | int | float):
                texts[str(value)] = None
    return [_Column(path, tuple(texts)) for path, texts in values.items() if path]


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict):
        yield path, value
    elif len(path) < _DEPTH:
        for name, member in value.items():
            yield from _leaves(member, (*path, name))


def _number(text: str) -> float | None:
    """Return a finite number, None for any other text."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
