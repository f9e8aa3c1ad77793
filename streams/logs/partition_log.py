"""Log lines about one partition: `partition=3 offset=1200: message`."""

import logging
from typing import Self


class PartitionLog(logging.LoggerAdapter[logging.Logger]):
    """Gives each record the fields `partition` and, if there is one, `offset`."""

    def __init__(self, logger: logging.Logger, partition: int, offset: int | None = None) -> None:
        fields = {"partition": partition}
        if offset is not None:
            fields["offset"] = offset
        super().__init__(logger, fields)
        self._logger, self._partition = logger, partition

    def at(self, offset: int) -> Self:
        """Return a log whose lines are about one offset of the partition."""
        return type(self)(self._logger, self._partition, offset)
