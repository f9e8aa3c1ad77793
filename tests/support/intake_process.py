"""`tokenpulse intake` in a process of its own, which a test may kill and start again."""

import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from streams.config.settings import Intake, Kafka, SchemaRegistry, Settings
from tests.support.servers import wait_until
from tokenpulse.local.embedded import environment, free_port, listens


class IntakeProcess:
    """An intake on a free loopback port; killed at the end of the block if it still runs."""

    def __init__(
        self, kafka: Kafka, schema_registry: SchemaRegistry | None = None, **intake: Any
    ) -> None:
        self.settings = Settings(
            kafka=kafka,
            intake=Intake(port=free_port(), **intake),
            schema_registry=schema_registry or SchemaRegistry(),
        )
        self.port = self.settings.intake.port
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return when it listens."""
        command = [sys.executable, "-m", "tokenpulse.cli.main", "intake"]
        self._process = subprocess.Popen(command, env=environment(self.settings))
        wait_until(lambda: listens("127.0.0.1", self.port), "the intake listens", 60)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kill it, and start it again on the same port."""
        self.kill()
        self.start()

    def stop(self) -> int:
        """End it with SIGTERM; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=60)
