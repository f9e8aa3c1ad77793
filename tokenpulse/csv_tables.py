"""CSV files that commands read, line by line."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from streams.errors import ConfigError

Line = tuple[int, Mapping[str, str]]  # number and columns


@contextmanager
def csv_table(file: Path) -> Iterator[tuple[list[str] | None, Iterator[Line]]]:
    """Yield the columns of a CSV file, and its lines. Raises ConfigError."""
    try:
        opened = file.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise _unreadable(file, str(error.strerror)) from error
    with opened:
        reader = csv.DictReader(opened, restval="")
        try:
            columns = None if reader.fieldnames is None else list(reader.fieldnames)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise _unreadable(file, str(error)) from error
        yield columns, _lines(reader, file)


def _lines(reader: "csv.DictReader[str]", file: Path) -> Iterator[Line]:
    while True:
        try:
            line = next(reader)
        except StopIteration:
            return
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise _unreadable(file, str(error)) from error
        # Columns beyond those of the head have no name.
        yield reader.line_num, {name: text for name, text in line.items() if name is not None}


def _unreadable(file: Path, reason: str) -> ConfigError:
    return ConfigError(f"{file}: cannot be read: {reason}; give the path of a CSV file")
