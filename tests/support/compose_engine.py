"""The services of docker-compose.yml as processes that see what containers would see.

No container engine runs here. A service gets what the kernel gives a container: a root file system
of its own, read only, with its mounts, secrets and volumes at their very paths; its user, without
capabilities; its host name; and a network that nobody else is in, where each service name has an
address of its own. Command, environment and health check are taken from the file as they are.

What is not as in a container: programs come from this machine and not from the images, and
`/opt/kafka/bin` holds stand-ins for Kafka's scripts; the services share one network, and see each
other's processes; limits of memory, processors and processes are not applied. Who is not root has
one user only, so that all services run as that one.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from tests.support.compose import document, environment_of, mounts_of, secrets_of
from tests.support.kafka_home import make_kafka_home
from tests.support.paths import ROOT
from tests.support.programs import find_program
from tests.support.servers import wait_until

HEALTH_S = 120
# The entry points of the images that the file does not set.
ENTRYPOINTS = {
    "tokenpulse": [str(Path(sys.executable).with_name("tokenpulse"))],
    "prom/prometheus": ["prometheus"],
    "prom/alertmanager": ["prometheus-alertmanager"],
}
PATH = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
# What programs of this machine need, and nothing of what its packages keep in /etc.
BARE_ROOT = """
mount -t tmpfs -o mode=755 none "$root"
mkdir "$root/proc" "$root/sys" "$root/dev" "$root/etc" "$root/usr"
for one in proc sys dev usr; do mount --rbind "/$one" "$root/$one"; done
mount -o remount,bind,ro "$root/usr"
for one in bin sbin lib lib64; do
  if [ -L "/$one" ]; then cp -P "/$one" "$root/$one"
  elif [ -d "/$one" ]; then mkdir "$root/$one"; mount --rbind "/$one" "$root/$one"; fi
done
cd /etc
for one in passwd group nsswitch.conf ld.so.cache localtime alternatives java-*; do
  if [ -e "$one" ]; then cp -R "$one" "$root/etc/"; fi
done
cd /
"""


def needs_namespaces() -> None:
    """Skip the test where this machine lets nobody make namespaces."""
    for program in ("unshare", "nsenter", "setpriv", "ip"):
        find_program(program)  # util-linux, iproute2; on Linux only
    tried = subprocess.run(
        ["unshare", *_unshared("--net", "--mount"), "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"this machine lets us make no namespaces: {tried.stderr.strip()}")


def _unshared(*kinds: str) -> list[str]:
    """Options of `unshare`; who is not root becomes it in a user namespace."""
    return [*([] if os.geteuid() == 0 else ["--map-root-user"]), *kinds]


class Engine:
    """The services of the file; a context manager that ends whatever runs.

    `secrets`: the directory that `make secrets` made. `replaced`: mounted in the place of a source
    of the file. `directory`: for volumes and logs.
    """

    def __init__(
        self, directory: Path, secrets: Path, replaced: Mapping[str, Path] | None = None
    ) -> None:
        self.document = document()
        self._directory, self._secrets = directory, secrets
        self._kafka = directory / "kafka"
        self._mountpoint = directory / "root"
        self._mountpoint.mkdir()
        self._replaced = dict(replaced or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._places: dict[str, str] = {}
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # Not loopback: whoever listens there only would not be heard by other containers.
        self._places = places = {
            name: f"10.77.0.{at}" for at, name in enumerate(self.document["services"], 1)
        }
        lines = [f"{address} {name}\n" for name, address in places.items()]
        (self._directory / "hosts").write_text("".join(["127.0.0.1 localhost\n", *lines]))
        make_kafka_home(self._kafka)
        script = ["set -e", "ip link set lo up"]
        script += [f"ip address add {address}/32 dev lo" for address in places.values()]
        script += ["echo up", "exec sleep infinity"]
        self._holder = subprocess.Popen(
            ["unshare", *_unshared("--net"), "sh", "-c", "\n".join(script)],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for name, process in self._processes.items():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            if error is not None:
                error.add_note(f"the log of {name} ends:\n{self.log(name)[-2_000:]}")
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()

    # -- what a test does ------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a service as its own process."""
        service = self.document["services"][name]
        with self._log(name).open("ab") as output:
            self._processes[name] = subprocess.Popen(
                self._contained(name, self._command(service)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def up(self, names: Iterable[str]) -> None:
        """Start services and what they depend on, as their conditions say; all are well then."""
        for name in names:
            self._bring(name)
        for name in names:
            self._wait_for_health(name)

    def _bring(self, name: str) -> None:
        if name in self._processes:
            return
        for other, how in self.document["services"][name].get("depends_on", {}).items():
            self._bring(other)
            if how["condition"] == "service_healthy":
                self._wait_for_health(other)
        self.start(name)
        if "disable" in self.document["services"][name]["healthcheck"]:  # it works once
            assert self._processes[name].wait(HEALTH_S) == 0, self.log(name)

    def _wait_for_health(self, name: str) -> None:
        wait_until(lambda: self.is_well(name), f"{name} is well", HEALTH_S)

    def is_well(self, name: str) -> bool:
        """Whether its health check passes; fails where the process has ended."""
        process = self._processes[name]
        assert process.poll() is None, f"{name} ended with {process.poll()}: {self.log(name)}"
        return self.passes(name)

    def passes(self, name: str) -> bool:
        """Whether the health check says so within its time, as the engine counts it."""
        try:
            return self.health(name).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def secret(self, name: str) -> str:
        """What a file of `make secrets` holds."""
        return (self._secrets / name).read_text().strip()

    def health(self, name: str) -> "subprocess.CompletedProcess[str]":
        """Run the health check of a service once, as the engine would."""
        check = self.document["services"][name]["healthcheck"]
        kind, *words = check["test"]
        command = ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words
        return self.inside(name, command, float(check["timeout"].removesuffix("s")) * 3)

    def inside(
        self, name: str, command: Sequence[str], timeout_s: float = HEALTH_S
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command with all that the service has."""
        return subprocess.run(
            self._contained(name, command), capture_output=True, text=True, timeout=timeout_s
        )

    def get(self, url: str) -> str:
        """What a page in the services' network says; OSError where it does not answer."""
        host, port = urlsplit(url).hostname or "", urlsplit(url).port
        known = f"{host}:{port}:{self._places[host]}"
        done = subprocess.run(
            [*self._in_network(), "curl", "-sS", "--fail", "-m", "5", "--resolve", known, url],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise OSError(done.stderr.strip())
        return done.stdout

    def json(self, url: str) -> Any:
        """The same, parsed."""
        return json.loads(self.get(url))

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a service's process."""
        self._processes[name].send_signal(number)

    def revive(self, name: str) -> None:
        """Start a service again if it has ended, as its restart policy asks."""
        assert self.document["services"][name]["restart"] == "unless-stopped"
        if self._processes[name].poll() is not None:
            self.start(name)

    def stop(self, name: str) -> int:
        """SIGTERM, and the service's own grace; the exit status."""
        grace = self.document["services"][name].get("stop_grace_period", "10s")
        self._processes[name].send_signal(signal.SIGTERM)
        return self._processes[name].wait(float(grace.removesuffix("s")))

    def log(self, name: str) -> str:
        """What the service has said."""
        return self._log(name).read_text(errors="replace")

    # -- how -------------------------------------------------------------------------------------

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def _command(self, service: Mapping[str, Any]) -> list[str]:
        own = ENTRYPOINTS.get(service["image"].rpartition(":")[0], [])
        return [*service.get("entrypoint", own), *service.get("command", [])]

    def _in_network(self) -> list[str]:
        assert self._holder is not None
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self._holder.pid), "--net", *user]

    def _contained(self, name: str, command: Sequence[str]) -> list[str]:
        service = self.document["services"][name]
        script = "\n".join(["set -eu", *self._root(name, service), self._exec(service, command)])
        return [
            *self._in_network(),
            *("unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", script),
        ]

    def _root(self, name: str, service: Mapping[str, Any]) -> list[str]:
        """Shell commands that make the service's root."""
        lines = [f"hostname {name}", f"root={shlex.quote(str(self._mountpoint))}", BARE_ROOT]
        for one in service.get("tmpfs", []):
            target, _, options = one.partition(":")
            wanted = ["nosuid", "nodev", *([] if "exec" in options.split(",") else ["noexec"])]
            lines += [
                f'mkdir -p "$root{target}"',
                f'mount -t tmpfs -o {",".join(wanted)},{options} none "$root{target}"',
            ]
        # In the place of the images' programs: this checkout, its Python, and Kafka. After the
        # above, as they may well lie in /tmp.
        shown = {one: one for one in (str(ROOT), sys.prefix, sys.base_prefix) if one != "/usr"}
        if "kafka" in service["image"]:
            shown[str(self._kafka)] = "/opt/kafka"
        lines += [_bind(source, target, read_only=True) for source, target in shown.items()]
        lines.append(_bind(self._directory / "hosts", "/etc/hosts", read_only=True))
        for source, target, read_only in mounts_of(service):
            lines.append(_bind(self._source(source), target, read_only))
        for secret, target in secrets_of(service):
            file = Path(self.document["secrets"][secret]["file"]).name
            lines.append(_bind(self._secrets / file, target, read_only=True))
        if service["read_only"]:
            lines.append('mount -o remount,bind,ro "$root"')
        return lines

    def _source(self, source: str) -> Path:
        if source in self._replaced:
            return self._replaced[source]
        if source.startswith("."):
            return ROOT / source
        volume = self._directory / "volumes" / source
        if not volume.exists():
            volume.mkdir(parents=True)
            if os.geteuid() == 0:  # as an engine makes it: of the first service that has it
                owner = next(
                    one["user"]
                    for one in self.document["services"].values()
                    if any(source == its for its, _, _ in mounts_of(one))
                )
                os.chown(volume, *map(int, owner.split(":")))
        return volume

    def _exec(self, service: Mapping[str, Any], command: Sequence[str]) -> str:
        user, group = service["user"].split(":")
        become = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        if os.geteuid() == 0:
            become += ["--reuid", user, "--regid", group, "--clear-groups"]
        variables = {"PATH": PATH, "HOME": "/nonexistent", **environment_of(service)}
        if service["image"].startswith("tokenpulse:"):
            variables |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
            variables["PYTHONDONTWRITEBYTECODE"] = "1"
        words = [
            *("chroot", str(self._mountpoint), *become, "env", "-i"),
            *(f"{one}={value}" for one, value in variables.items()),
            *("sh", "-c", f'cd {_workdir(service)} && exec "$@"', "sh", *command),
        ]
        return f"exec {shlex.join(words)}"


def _workdir(service: Mapping[str, Any]) -> str:
    """Where the image's program starts: Redis in its volume, the others nowhere of importance."""
    return "/data" if service["image"].startswith("redis:") else "/tmp"


def _bind(source: Path | str, target: str, read_only: bool) -> str:
    """Shell command that mounts a file or a directory into the root."""
    at = f'"$root"{shlex.quote(target)}'
    made = f"mkdir -p {at}" if Path(source).is_dir() else f"mkdir -p $(dirname {at}); touch {at}"
    mounted = f"mount --rbind {shlex.quote(str(source))} {at}"
    return f"{made}; {mounted}" + (f"; mount -o remount,bind,ro {at}" if read_only else "")
