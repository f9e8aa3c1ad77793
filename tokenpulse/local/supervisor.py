"""Child processes: started in order, watched, and ended together.

If a vital child dies, or another child dies for the second time, the supervisor ends all children
and keeps the reason in `failure`. It restarts other children once, without a delay. It does not
rebuild a stack: a broker or a Redis that comes back empty would not match the other's data.

Every child leads a process group of its own, so that Ctrl-C in a terminal reaches only the
supervisor, which decides the order of the ends. On Linux the kernel also kills the children if the
supervisor is killed. The kernel's rule is "when the thread that started the child ends", so one
thread starts and watches all children, and lives until the last child has ended.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streams.errors import Unavailable

POLL_INTERVAL_S = 0.1
TAIL_BYTES, TAIL_LINES = 16_384, 20

# Runs in the child before the program: asks the kernel for SIGKILL when the parent thread ends, and
# checks that it has not ended already. A preexec_fn would do the same, but may deadlock in a
# process with threads.
_BIND_TO_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class ChildError(Unavailable):
    """A child did not start; one line, then the end of its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """A program to run. `program` is a full path; `arguments` must not contain a secret.

    `vital`: if it dies, the supervisor ends the stack. `stop_grace_s`: seconds between SIGTERM and
    SIGKILL.
    """

    name: str
    program: str
    arguments: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    vital: bool = False
    stop_grace_s: float = 10


@dataclass(slots=True)
class _Running:
    child: Child
    process: "subprocess.Popen[bytes]"
    restarted: bool = False


class Supervisor:
    """Starts children and watches them until `stop`.

    `log_dir` receives NAME.log for each. `start` calls `boot` with this supervisor, in the thread
    that watches; it calls `launch` for each child, and `wait_until` if the next one needs it.
    `on_failure` is called after the supervisor has ended all children. `say` prints one message.
    """

    def __init__(
        self,
        log_dir: Path,
        boot: Callable[["Supervisor"], None],
        say: Callable[[str], None],
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.log_dir = log_dir
        self.failure: str | None = None  # why all children were ended
        self._boot = boot
        self._say = say
        self._on_failure = on_failure
        self._running: dict[str, _Running] = {}
        self._leave = threading.Event()
        self._hard = threading.Event()
        self._booted = threading.Event()
        self._boot_error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Call `boot` and return when it has. Raises its error, after ending all children."""
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()
        self._booted.wait()
        if self._boot_error is not None:
            self._thread.join()
            raise self._boot_error

    def stop(self) -> None:
        """End all children; returns when the last one has ended."""
        self._leave.set()
        if self._thread is not None:
            self._thread.join()

    def interrupt(self, hard: bool = False) -> None:
        """Begin to stop, for a signal handler: `stop` then waits less, `start` ends early.

        `hard`: kill the children without a grace period.
        """
        if hard:
            self._hard.set()
        self._leave.set()

    def launch(self, child: Child) -> None:
        """Start one child; called by `boot`."""
        self._running[child.name] = _Running(child, self._spawn(child))

    def wait_until(self, child: Child, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready()`; called by `boot`.

        Raises ChildError if the child died or the time is up, with the end of its log.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._leave.is_set():
            # In this order: another server may answer at the port of a dead child.
            is_ready = ready()
            if not self.alive(child.name):
                raise ChildError(f"{child.name} ended at its start{self.tail(child.name)}")
            if is_ready:
                return
            if time.monotonic() > deadline_s:
                raise ChildError(
                    f"{child.name} does not answer after {timeout_s:g} s{self.tail(child.name)}"
                )
            self._leave.wait(0.02)
        raise ChildError("stopped while starting")

    def alive(self, name: str) -> bool:
        """Tell if a child runs."""
        return self.pid(name) is not None

    def pid(self, name: str) -> int | None:
        """Return the process id of a child; None if it does not run."""
        running = self._running.get(name)
        return running.process.pid if running and running.process.poll() is None else None

    def tail(self, name: str) -> str:
        """Return the end of a child's log, indented, on lines of its own; empty without a log."""
        try:
            with (self.log_dir / f"{name}.log").open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError:
            return ""
        return ":" + "".join(f"\n    {line}" for line in lines) if lines else ""

    def _run(self) -> None:
        try:
            self._boot(self)
        except BaseException as error:
            self._boot_error = error
            self._hard.set()
            self._stop_all()
            return
        finally:
            self._booted.set()
        while self.failure is None and not self._leave.wait(POLL_INTERVAL_S):
            for running in self._running.values():
                if running.process.poll() is not None:
                    self._handle_death(running)
        self._stop_all()
        if self.failure is not None:
            self._on_failure()

    def _handle_death(self, running: _Running) -> None:
        """Restart a child once; end the stack if it is vital or dies again."""
        name, ending = running.child.name, _describe_end(running.process.returncode)
        if running.child.vital:
            self.failure = (
                f"{name} {ending}, and the data in memory with it; start the stack again"
                f"{self.tail(name)}"
            )
        # A child that dies again will die a third time.
        elif running.restarted:
            self.failure = f"{name} {ending}, a second time{self.tail(name)}"
        else:
            self._say(f"{name} {ending}; restarting it once")
            # The child may have left processes of its own.
            _kill_group(running.process.pid)
            running.process = self._spawn(running.child)
            running.restarted = True

    def _spawn(self, child: Child) -> "subprocess.Popen[bytes]":
        command = [child.program, *child.arguments]
        if sys.platform == "linux":
            command = [
                sys.executable, "-I", "-S", "-c", _BIND_TO_PARENT, str(os.getpid()), *command
            ]  # fmt: skip
        with (self.log_dir / f"{child.name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=dict(child.environment) or None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches only the supervisor.
                start_new_session=True,
                umask=0o077,
            )

    def _stop_all(self) -> None:
        """End the children; vital ones last, as the rest may still send them data."""
        for vital in (False, True):
            ending = [item for item in self._running.values() if item.child.vital == vital]
            for running in ending:
                running.process.terminate()
            began_s = time.monotonic()
            for running in ending:
                deadline_s = began_s + running.child.stop_grace_s
                while running.process.poll() is None and time.monotonic() < deadline_s:
                    if self._hard.wait(0.01):
                        break
                # After SIGTERM and the grace period.
                _kill_group(running.process.pid)
                running.process.wait()


def _kill_group(pid: int) -> None:
    """Kill all processes of a child's process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _describe_end(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
