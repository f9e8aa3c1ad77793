"""`tokenpulse intake` in a process of its own, which a test may kill and start again."""

import sys
from typing import Any, Self

from streams.config.settings import Intake, Kafka, SchemaRegistry, Settings
from tests.support.owned_process import OwnedProcess
from tests.support.servers import wait_until
from tokenpulse.local.embedded import environment, free_port, listens


class IntakeProcess(OwnedProcess):
    """An intake on a free loopback port; killed at the end of the block if it still runs."""

    def __init__(
        self, kafka: Kafka, schema_registry: SchemaRegistry | None = None, **intake: Any
    ) -> None:
        super().__init__("the intake")
        self.settings = Settings(
            kafka=kafka,
            intake=Intake(port=free_port(), **intake),
            schema_registry=schema_registry or SchemaRegistry(),
        )
        self.port = self.settings.intake.port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, and return when it listens."""
        command = [sys.executable, "-m", "tokenpulse.cli.main", "intake"]
        self.run(command, env=environment(self.settings))
        wait_until(lambda: listens("127.0.0.1", self.port), "the intake listens", 60)

    def restart(self) -> None:
        """Kill it, and start it again on the same port."""
        self.kill()
        self.start()

    def stop(self) -> int:
        """End it with SIGTERM; return its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=60)
