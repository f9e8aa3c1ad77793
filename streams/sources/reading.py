"""Load a mapping, and read a file with it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from streams.sources.declaration import SHIPPED, load_yaml
from streams.sources.files import RowError
from streams.sources.records import read_records
from streams.sources.rows import Row
from streams.sources.sql_engine import LockedDatabase
from streams.sources.sql_mapping import Record, Source, SqlMapping, read_sql
from streams.sources.translation import translate

# A larger batch costs less a record; its texts are in memory several times.
BATCH_RECORDS, BATCH_BYTES = 8_192, 8 * 1024 * 1024
_COMPRESSED = (".gz", ".zst", ".zstd")


def shipped_mappings() -> list[str]:
    """Return the names that `load_mapping` accepts besides paths."""
    return sorted(path.stem for path in SHIPPED.glob("*.sql"))


def load_mapping(name_or_path: str, database: LockedDatabase | None = None) -> SqlMapping:
    """Load the shipped mapping of that name, or a file of SQL or YAML. Raises ConfigError.

    `database`: for its queries alone; by default one that all mappings of the process share.
    """
    # A shipped name wins over a file of that name, so that a name always means the same.
    names = shipped_mappings()
    is_shipped = name_or_path in names
    path = SHIPPED / f"{name_or_path}.sql" if is_shipped else Path(name_or_path)
    fix = "give the path of an SQL file or a shipped mapping: " + ", ".join(names)
    if path.suffix == ".sql":
        return read_sql(name_or_path, path, fix, database)
    return SqlMapping(translate(load_yaml(path, fix)), str(path), database=database)


def read_rows(
    path: Path,
    mapping: SqlMapping,
    base_ms: int | None = None,
    count_skipped: Callable[[int], None] | None = None,
) -> Iterator[Row | RowError]:
    """Yield every row of the file, in its order, as an event or as an error.

    A value that cannot be used costs its field, not the row, unless the row then has no id, no time
    or no outcome. `base_ms` replaces the mapping's base for relative times. `count_skipped` gets
    the numbers of records for which the mapping has no row. Raises UnreadableFile, from the
    iterator, if the file cannot be read or lacks a mapped column.
    """
    first: Record | None = None
    for records, errors in _batches(path, mapping):
        # Of the file, not of the batch: clocks are counted from it.
        if first is None:
            first = first_usable(mapping, records, stem(path), base_ms)
        source = Source(stem(path), base_ms, first)
        batch = mapping.map(records, source)
        if count_skipped is not None:
            count_skipped(batch.skipped)
        rows: list[Row | RowError] = [*batch.rows, *batch.failures, *errors]
        yield from sorted(rows, key=lambda row: row.line)


def first_usable(
    mapping: SqlMapping, records: Sequence[Record], name: str, base_ms: int | None = None
) -> Record | None:
    """Return the first record of which the mapping makes an event; None if of none.

    A mapping that does not use it gets the first record.
    """
    if not mapping.uses_first:
        return records[0] if records else None
    each = Source(name, base_ms, each_is_first=True)
    # Nearly always it is the first record.
    for candidates in (records[:1], records[1:]):
        if rows := mapping.map(candidates, each).rows:
            line = min(row.line for row in rows)
            return next(record for record in candidates if record.line == line)
    return None


def stem(path: Path) -> str:
    """Return a file's name without its endings; one that begins with a digit is kept.

    `access.log.1` and `access.log.2` are two logs, whose rows must not have the same request ids.
    """
    name = path.name
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    rest, _, ending = name.rpartition(".")
    return rest if rest and not ending[:1].isdigit() else name


def _batches(path: Path, mapping: SqlMapping) -> Iterator[tuple[list[Record], list[RowError]]]:
    records: list[Record] = []
    errors: list[RowError] = []
    size = 0
    for record in read_records(path, mapping.options):
        if isinstance(record, RowError):
            errors.append(record)
        else:
            records.append(record)
            size += len(record.value)
        # Payloads of 12 kB fill the processor's caches long before the count is reached.
        if len(records) + len(errors) >= BATCH_RECORDS or size >= BATCH_BYTES:
            yield records, errors
            records, errors, size = [], [], 0
    yield records, errors
