"""`tokenpulse exporter` in a process of its own."""

import resource
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.config.settings import Settings
from tests.support.servers import wait_until
from tokenpulse.local.embedded import environment, free_port, listens


class ExporterProcess:
    """An exporter on a free loopback port; killed at the end of the block."""

    def __init__(self, settings: Settings, log: Path, files: int | None = None) -> None:
        """`files`: how many it may have open, whatever it asks for."""
        exporter = settings.exporter.model_copy(update={"port": free_port()})
        self.settings = settings.model_copy(update={"exporter": exporter})
        self.port, self._log, self._files = exporter.port, log, files
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tokenpulse.cli.main", "exporter"]
        if self._files is not None:
            limited = 'ulimit -n "$1" && shift && exec "$@"'
            command = ["/bin/sh", "-c", limited, "sh", str(self._files), *command]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=environment(self.settings), stdout=output, stderr=output
            )
        wait_until(lambda: listens("127.0.0.1", self.port), "the exporter listens", 60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(f"the exporter's log ends:\n{self.log[-3_000:]}")
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def limit_files(self, number: int) -> None:
        """Let it have so many files open; those that are open already stay."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (number, hard))
