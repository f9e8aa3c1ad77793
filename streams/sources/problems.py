"""Messages about rows and fields that cannot be used, few enough to be read.

A file with one wrong column has the same problem in every row. So only the first ten messages of
each kind are printed, and at the end how many more there were.
"""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from streams.events.columns import Rejection
from streams.sources.files import RowError
from streams.sources.rows import Row

SHOWN_PER_KIND = 10
# The parts of a message that differ from row to row: the value, and numbers such as a position.
_VALUE = re.compile(r"found .*(?=;)|'[^']*'|\d+", re.DOTALL)


class RowProblems:
    """Prints the problems of one file's rows through `say`, and counts them.

    `unmapped`: rows that did not become an event. `left_out`: fields left out of rows that became
    an event.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[int, str]] = {}
        self.unmapped = 0
        self.left_out = 0

    def report(self, error: RowError) -> None:
        """Print why a row did not become an event, unless ten of this kind are printed already."""
        self.unmapped += 1
        self._print(error.line, error.problem)

    def report_rejected(self, line: int, rejection: Rejection) -> None:
        """Print why the worker rejects an event, in the same way."""
        self._print(line, f"rejected, {rejection.reason}: {rejection.detail}")

    def report_fields(self, row: Row) -> None:
        """Print which fields were left out of a row, and why, in the same way."""
        self.left_out += len(row.problems)
        for problem in row.problems:
            self._print(row.line, f"{problem}; the row counts without it")

    def _print(self, line: int, problem: str) -> None:
        # Messages are of one kind if they differ in the value and in numbers only.
        kind = _VALUE.sub("", problem)
        self._counts[kind] += 1
        self._first.setdefault(kind, (line, problem))
        if self._counts[kind] <= SHOWN_PER_KIND:
            self._say(f"{self._path}: line {line}: {problem}")

    def summarise(self) -> None:
        """Print how many problems of each kind were left out. Call it at the end of the file."""
        for kind, count in self._counts.items():
            if count > SHOWN_PER_KIND:
                line, problem = self._first[kind]
                self._say(
                    f"{self._path}: {count - SHOWN_PER_KIND:,} more like line {line}: {problem}"
                )
