"""`tokenpulse exporter` in a process of its own."""

import resource
import sys
from pathlib import Path
from typing import Self

from streams.config.settings import Settings
from tests.support.owned_process import OwnedProcess
from tests.support.servers import wait_until
from tokenpulse.local.embedded import environment, free_port, listens


class ExporterProcess(OwnedProcess):
    """An exporter on a free loopback port; killed at the end of the block."""

    def __init__(self, settings: Settings, log: Path, files: int | None = None) -> None:
        """`files`: how many it may have open, whatever it asks for."""
        super().__init__("the exporter", log)
        exporter = settings.exporter.model_copy(update={"port": free_port()})
        self.settings = settings.model_copy(update={"exporter": exporter})
        self.port, self._files = exporter.port, files

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tokenpulse.cli.main", "exporter"]
        if self._files is not None:
            limited = 'ulimit -n "$1" && shift && exec "$@"'
            command = ["/bin/sh", "-c", limited, "sh", str(self._files), *command]
        self.run(command, env=environment(self.settings))
        wait_until(lambda: listens("127.0.0.1", self.port), "the exporter listens", 60)
        return self

    def limit_files(self, number: int) -> None:
        """Let it have so many files open; those that are open already stay."""
        _, hard = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (number, hard))
