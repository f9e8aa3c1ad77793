"""Files that no source reads as they are, for `tokenpulse try`: their content, or the reason."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

from streams.sources.files import RowError, UnreadableFile, open_plain, plain_lines
from streams.sources.guess import ROWS, Guess, contract_records, guesses_of
from streams.sources.records import read_records
from streams.sources.sql_mapping import FileOptions, Record
from tokenpulse import span_sample
from tokenpulse.foreign_sample import explain_bytes, explain_records, explain_table, explain_text
from tokenpulse.wrapped_sample import unwrap

_HEAD_BYTES = 65_536
_MARK_BYTES = 6


def check_bytes(path: Path) -> None:
    """Raise UnreadableFile for bytes of a known form that are no text."""
    with open_plain(path) as file:
        problem = explain_bytes(file.peek(_MARK_BYTES)[:_MARK_BYTES])
    if problem is not None:
        raise UnreadableFile(f"{path}: {problem}")


def inner_guesses(path: Path) -> list[Guess]:
    """Return the mappings that read the records inside of the file's records, the best guess first.

    Raises UnreadableFile.
    """
    records, is_list = _raw_records(path), _head(path)[:1] == b"["
    # As events, the lines of the file were none: they are over several lines, or in a list.
    events = contract_records(records)
    if events is not None:
        return [replace(events, extraction=f"jq -c '{'.[]' if is_list else '.'}' {{file}}")]
    for wrapped in unwrap(records, is_list):
        known = contract_records(wrapped.records) or span_sample.read_json(wrapped.records)
        fitting = [known] if known is not None else guesses_of(wrapped.records, path)
        if fitting:
            return [replace(guess, extraction=wrapped.extraction) for guess in fitting]
    return []


def unread(path: Path) -> tuple[list[Record], str | None]:
    """Return the first records of a file that no mapping reads, and why, if the form is known.

    Raises UnreadableFile.
    """
    head = _head(path)
    if not head:
        raise UnreadableFile(f"{path}: has no records; give a file with some")
    explanation = explain_text(head)
    if explanation is not None:
        return [], explanation
    sample = list(islice(read_records(path, FileOptions()), ROWS))
    records = [record for record in sample if isinstance(record, Record)]
    if not records and sample and isinstance(sample[0], RowError):
        return [], f"line {sample[0].line}: {sample[0].problem}"
    explanation = explain_records([record.content for record in records])
    if explanation is None and head[:1] not in b"{[":
        explanation = explain_table(records)
    return records, explanation


def _head(path: Path) -> bytes:
    with open_plain(path) as file:
        return file.read(_HEAD_BYTES).lstrip()


def _raw_records(path: Path) -> list[Record]:
    """Return the first JSON values of a file, or its lines if they begin with another text."""
    if _head(path)[:1] in (b"{", b"["):
        sample = islice(read_records(path, FileOptions()), ROWS)
        return [record for record in sample if isinstance(record, Record)]
    with open_plain(path) as file:
        return [
            Record(number, line.rstrip(b"\r\n"))
            for number, line in islice(plain_lines(file), ROWS)
            if isinstance(line, bytes) and not line.isspace()
        ]
