"""CSV files that commands read, line by line."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streams.errors import ConfigError

Line = tuple[int, Mapping[str, str]]  # number and columns


@contextmanager
def csv_table(
    file: Path,
) -> Iterator[tuple[list[str] | None, Iterator[tuple[int, Mapping[str, str]]]]]:
    """Yield the columns of a CSV file, and its lines with their numbers. Raises ConfigError."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, restval="")
            columns = None if reader.fieldnames is None else list(reader.fieldnames)
            yield columns, ((reader.line_num, line) for line in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(
            f"{file}: cannot be read: {reason}; give the path of a CSV file"
        ) from error
