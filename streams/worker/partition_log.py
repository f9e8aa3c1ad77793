"""Log lines about one partition: `partition=3 offset=1200: message`."""

import logging
from collections.abc import MutableMapping
from typing import Any, Self


class PartitionLog(logging.LoggerAdapter[logging.Logger]):
    """Puts partition and offset in front of each message.

    Both are also attributes of the log record, for handlers that write fields.
    """

    def __init__(self, logger: logging.Logger, partition: int, offset: int | None = None) -> None:
        fields = {"partition": partition}
        if offset is not None:
            fields["offset"] = offset
        super().__init__(logger, fields)
        self._logger, self._partition = logger, partition
        self._prefix = " ".join(f"{name}={number}" for name, number in fields.items())

    def at(self, offset: int) -> Self:
        """Return a log whose lines are about one offset of the partition."""
        return type(self)(self._logger, self._partition, offset)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[str, MutableMapping[str, Any]]:
        """Add the prefix and the fields."""
        return super().process(f"{self._prefix}: {msg}", kwargs)
