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
    """Reads the file of the tokens, and replaces the content of `tokens` if the file changes.

    If the file cannot be used, the senders read before stay valid, and the file is read at each
    check until it can be used.
    """

    def __init__(self, settings: Intake, prepare: Callable[[set[str]], None]) -> None:
        """Read the file. Raises ConfigError.

        `prepare`: loads the sources that the senders name. Raises ConfigError.
        """
        self._settings, self._prepare = settings, prepare
        self._problem: str | None = None  # logged last; None if the file was usable
        self._stamp = _stamp(settings.tokens_file)
        self.tokens = self._load()

    def _load(self) -> Tokens:
        tokens = load_tokens(self._settings)
        self._prepare(tokens.sources())
        return tokens

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
            self._problem = None
            return
        try:
            fresh = self._load()
        except ConfigError as error:
            self._report(one_line(error))
        # A check that fails must not end the next ones.
        except Exception as error:
            # Without its text, which may quote a token.
            self._report(
                f"{self._settings.tokens_file}: got {type(error).__name__} while reading it and "
                "the sources of its senders; check them with `tokenpulse config check`"
            )
        else:
            self._stamp, self._problem = stamp, None
            self.tokens.replace(fresh)
            log.info("%s: read again: %d senders", self._settings.tokens_file, len(fresh))

    def _report(self, problem: str) -> None:
        """Log a problem, but only once if the next checks find it again."""
        if problem != self._problem:
            self._problem = problem
            log.error("%s; the tokens read before stay valid", problem)


def _stamp(path: Path | None) -> _Stamp | None:
    """Return a value that changes with the content of a file; None if there is no file."""
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
