"""Follows changes of the file of the tokens, so that senders come and go without a restart."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from streams.config.settings import Intake
from streams.errors import ConfigError, one_line
from streams.intake.tokens import Tokens, load_tokens

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 2.0
_Stamp = tuple[int, int, int]


class TokensReload:
    """Replaces the senders of `tokens` if their file changes.

    A file that cannot be used changes nothing: the senders read before stay valid.
    """

    def __init__(
        self, settings: Intake, tokens: Tokens, prepare: Callable[[set[str]], None]
    ) -> None:
        """`prepare`: loads the sources that the senders name. Raises ConfigError."""
        self._settings, self._tokens, self._prepare = settings, tokens, prepare
        self._stamp = _stamp(settings.tokens_file)

    async def run(self) -> None:
        """Check the file until the task is cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            self.check()

    def check(self) -> None:
        """Read the file again if it is not the one that was read last."""
        # Taken before the content, so that a change while it is read is seen at the next check.
        stamp = _stamp(self._settings.tokens_file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            fresh = load_tokens(self._settings)
            self._prepare(fresh.sources())
        except ConfigError as error:
            log.error("%s; the tokens read before stay valid", one_line(error))
        else:
            self._tokens.replace(fresh)
            log.info("%s: read again: %d senders", self._settings.tokens_file, len(fresh))


def _stamp(path: Path | None) -> _Stamp | None:
    """Return what changes with the content of a file; None if there is no file."""
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
