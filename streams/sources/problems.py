"""Messages about rows that cannot be used, few enough to be read.

A file with one wrong column has the same problem in every row. So only the first ten messages of
each kind are printed, and at the end how many more there were.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from streams.sources.files import RowError

SHOWN_PER_KIND = 10
# The parts of a message that differ from row to row: the value, and numbers such as a position.
_VALUE = re.compile(r"found .*(?=;)|'[^']*'|\d+", re.DOTALL)


class RowProblems:
    """Prints the problems of one file's rows through `say`, and counts them in `total`."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._counts: Counter[str] = Counter()
        self._first: dict[str, RowError] = {}

    @property
    def total(self) -> int:
        return self._counts.total()

    def report(self, error: RowError) -> None:
        """Print the problem unless ten of its kind are printed already."""
        kind = _VALUE.sub("", error.problem)
        self._counts[kind] += 1
        self._first.setdefault(kind, error)
        if self._counts[kind] <= SHOWN_PER_KIND:
            self._say(f"{self._path}: line {error.line}: {error.problem}")

    def summarise(self) -> None:
        """Print how many problems of each kind were left out. Call it at the end of the file."""
        for kind, count in self._counts.items():
            if count > SHOWN_PER_KIND:
                first = self._first[kind]
                self._say(
                    f"{self._path}: {count - SHOWN_PER_KIND:,} more like line {first.line}: "
                    f"{first.problem}"
                )
