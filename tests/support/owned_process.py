"""What all processes that a test starts, kills and starts again have in common."""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType

NOTED_CHARACTERS = 3_000  # of a log, at a failure of its test


class OwnedProcess:
    """A process of one test. The end of its block kills it; a failure in the block gets its log."""

    def __init__(self, name: str, log_file: Path | None = None) -> None:
        """`name`: for messages. `log_file`: None if its output is that of the test."""
        self._name, self._log_file = name, log_file
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._log_file is not None:
            error.add_note(f"the log of {self._name} ends:\n{self.log[-NOTED_CHARACTERS:]}")
        self.kill()

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        restore_signals: bool = True,
    ) -> None:
        """Start the process; what it prints is added to its log."""
        log = nullcontext() if self._log_file is None else self._log_file.open("ab")
        with log as output:
            self._process = subprocess.Popen(
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                restore_signals=restore_signals,
            )

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process that was started last."""
        assert self._process is not None, f"{self._name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """Its output so far."""
        assert self._log_file is not None, f"{self._name} writes no log"
        return self._log_file.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to it."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
