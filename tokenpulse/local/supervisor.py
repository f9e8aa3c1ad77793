"""Child processes: started, watched, restarted when they die, and gone when we are.

A shell around the operating system. Every child leads a process group of its own, so that Ctrl-C
in a terminal reaches only us and we decide the order of leaving. On Linux a child is also killed
by the kernel when we die without a word (SIGKILL, out of memory).

One thread starts and watches all children: the kernel's rule is "when the thread that started me
ends", so that thread lives until the last child is gone.
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
# Waits before restarting a child that has just died again: 0.5, 1, 2, ... 30 s.
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 30.0
# A child that lived this long is well: its next death starts the back-off afresh.
SOUND_AFTER_S = 60.0
# Deaths in a row after which the end of the log is shown.
DEATHS_TO_SHOW = 3
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
    """A child could not be started or keeps dying; one line, then the end of its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """What to run. `program` is a full path; no secret belongs into `arguments`.

    `vital`: when it dies nothing the others hold is worth anything, so all are started afresh.
    `stop_grace_s`: seconds it gets to leave after SIGTERM, before SIGKILL.
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
    process: "subprocess.Popen[bytes] | None" = None
    started_at_s: float = 0.0
    start_again_at_s: float = 0.0
    deaths: int = 0  # in a row


class Supervisor:
    """Starts children in order and keeps them running until `stop`.

    `log_dir` receives NAME.log for each. `boot` is called with this supervisor, in the thread that
    watches, whenever everything is to be started: once by `start`, and again after a vital child
    died. It calls `launch` for each child, waiting for one where the next needs it. `say` takes
    one-line messages for the person watching.
    """

    def __init__(
        self,
        log_dir: Path,
        boot: Callable[["Supervisor"], None],
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self.log_dir = log_dir
        self.rebuilds = 0  # times everything was started afresh because a vital child died
        self._boot = boot
        self._say = say
        self._running: dict[str, _Running] = {}
        self._leave = threading.Event()
        self._hard = threading.Event()
        self._booted = threading.Event()
        self._boot_error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start everything; returns when `boot` has. Raises what it raised, with nothing left."""
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()
        self._booted.wait()
        if self._boot_error is not None:
            self._thread.join()
            raise self._boot_error

    def stop(self) -> None:
        """End all children; returns when none is left."""
        self._leave.set()
        if self._thread is not None:
            self._thread.join()

    def interrupt(self, hard: bool = False) -> None:
        """Begin to stop, for a signal handler: `stop` then waits less, `start` ends early.

        `hard`: do not wait for children that take their time to leave.
        """
        if hard:
            self._hard.set()
        self._leave.set()

    def launch(self, child: Child) -> None:
        """Start one child; called by `boot`."""
        running = self._running.setdefault(child.name, _Running(child))
        running.child = child
        self._spawn(running)

    def wait_until(self, child: Child, ready: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `ready()`, called by `boot`.

        Raises ChildError when the child died or the time is up, with the end of its log.
        """
        deadline_s = time.monotonic() + timeout_s
        while not self._leave.is_set():
            is_ready = ready()
            # Asked in this order: something else may answer in the place of a dead child.
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
        """Whether the child runs at this moment."""
        return self.pid(name) is not None

    def pid(self, name: str) -> int | None:
        """Process id of a child, None while it does not run."""
        running = self._running.get(name)
        process = running.process if running else None
        return process.pid if process is not None and process.poll() is None else None

    def troubled(self) -> list[str]:
        """Names of children that keep dying."""
        return [
            name
            for name, running in list(self._running.items())
            if running.deaths >= DEATHS_TO_SHOW
        ]

    def tail(self, name: str) -> str:
        """The end of a child's log, indented, on lines of its own; empty where there is none."""
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
        while not self._leave.wait(POLL_INTERVAL_S):
            dead = [running for running in self._running.values() if self._has_died(running)]
            if any(running.child.vital for running in dead):
                self._rebuild(dead)
            else:
                for running in dead:
                    self._plan_restart(running)
                self._restart_due()
        self._stop_all()

    def _has_died(self, running: _Running) -> bool:
        return running.process is not None and running.process.poll() is not None

    def _plan_restart(self, running: _Running) -> None:
        assert running.process is not None
        now_s = time.monotonic()
        if now_s - running.started_at_s >= SOUND_AFTER_S:
            running.deaths = 0
        wait_s = min(FIRST_BACKOFF_S * 2**running.deaths, LONGEST_BACKOFF_S)
        running.deaths += 1
        name, how = running.child.name, _how_ended(running.process.returncode)
        shown = self.tail(name) if running.deaths >= DEATHS_TO_SHOW else ""
        self._say(f"{name} {how}; starting it again in {wait_s:g} s{shown}")
        _end_group(running.process.pid)
        running.process = None
        running.start_again_at_s = now_s + wait_s

    def _restart_due(self) -> None:
        for running in self._running.values():
            if running.process is None and time.monotonic() >= running.start_again_at_s:
                self._spawn(running)

    def _rebuild(self, dead: list[_Running]) -> None:
        """A vital child died: stop the rest, start all again, as often as it takes."""
        causes = [
            f"{running.child.name} {_how_ended(running.process.returncode)}"
            for running in dead
            if running.child.vital and running.process is not None
        ]
        self._say(f"{', '.join(causes)}; starting everything again, empty")
        attempts = 0
        while not self._leave.is_set():
            self.rebuilds += 1
            self._stop_all()
            try:
                self._boot(self)
                return
            except Exception as error:
                if self._leave.is_set():
                    return
                wait_s = min(FIRST_BACKOFF_S * 2**attempts, LONGEST_BACKOFF_S)
                attempts += 1
                self._say(f"{error}; trying again in {wait_s:g} s")
                self._leave.wait(wait_s)

    def _spawn(self, running: _Running) -> None:
        child = running.child
        command = [child.program, *child.arguments]
        if sys.platform == "linux":
            command = [
                sys.executable, "-I", "-S", "-c", _BIND_TO_PARENT, str(os.getpid()), *command
            ]  # fmt: skip
        with (self.log_dir / f"{child.name}.log").open("ab") as log:
            running.process = subprocess.Popen(
                command,
                env=dict(child.environment) or None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=0o077,
            )
        running.started_at_s = time.monotonic()

    def _stop_all(self) -> None:
        """Vital children last: the others may still have something to hand over to them."""
        for vital in (False, True):
            leaving = [
                (running, running.process)
                for running in self._running.values()
                if running.child.vital == vital and running.process is not None
            ]
            for _, process in leaving:
                process.terminate()
            began_s = time.monotonic()
            for running, process in leaving:
                deadline_s = began_s + running.child.stop_grace_s
                while process.poll() is None and time.monotonic() < deadline_s:
                    if self._hard.wait(0.01):
                        break
                _end_group(process.pid)
                process.wait()
                running.process = None


def _end_group(pid: int) -> None:
    """Kill what is left of a child's process group, the child included."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _how_ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
