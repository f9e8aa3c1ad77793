"""A container engine of the test's own, with stand-ins for the images of docker-compose.yml.

The engine is what tests/engine/provision.sh put into the cache directory. It changes nothing of
this machine that its end does not undo: no rule of the firewall, no default bridge, files in the
cache only. Its images stay there, so that a second run builds nothing again.
"""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.apache_kafka import CACHE_VARIABLE
from tests.support.kafka_home import make_kafka_home
from tests.support.owned_process import OwnedProcess
from tests.support.paths import TESTS
from tests.support.programs import demand_stack_mark
from tests.support.servers import wait_until

START_S = 60
BUILD_S = 600
BASE = "tokenpulse-test-base:1"
PLUGINS = ("docker-compose", "docker-buildx")


def provisioned() -> Path:
    """Return where provision.sh put the engine; skips the test if it did not."""
    demand_stack_mark("a container engine")
    named = os.environ.get(CACHE_VARIABLE)
    found = (Path(named) if named else Path.home() / ".cache" / "tokenpulse-tests") / "engine"
    if not (found / "provisioned-by").exists():
        pytest.skip("no container engine is provisioned: run bash tests/engine/provision.sh")
    if os.geteuid() != 0:
        pytest.skip("a container engine needs root")
    return found


class ContainerEngine(OwnedProcess):
    """`dockerd` and a client for it. The end of the block ends it and its containers."""

    def __init__(self, directory: Path) -> None:
        """`directory`: for the log and the client's settings."""
        super().__init__("the container engine", directory / "engine.log")
        self._there = provisioned()
        # Short: it is part of the paths of Unix sockets.
        self._run = Path(tempfile.mkdtemp(prefix="engine-", dir="/run"))
        self._client = directory / "client"
        (self._client / "cli-plugins").mkdir(parents=True)
        for plugin in PLUGINS:
            program = self._there / "usr/libexec/docker/cli-plugins" / plugin
            (self._client / "cli-plugins" / plugin).symlink_to(program)
        self.environment = {
            **os.environ,
            "PATH": f"{self._there}/usr/bin:{self._there}/usr/sbin:/usr/sbin:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{self._run}/docker.sock",
            "DOCKER_CONFIG": str(self._client),
        }

    def __enter__(self) -> Self:
        self.run(
            [
                *(str(self._there / "usr/sbin/dockerd"), "--host", self.environment["DOCKER_HOST"]),
                *("--data-root", str(self._there / "data"), "--exec-root", str(self._run / "exec")),
                *("--pidfile", str(self._run / "docker.pid")),
                # Containers of the internal networks have no way out by their routes alone.
                *("--bridge", "none", "--iptables=false", "--ip6tables=false"),
                *("--ip-forward=false", "--init-path", str(self._there / "usr/bin/tini-static")),
            ],
            env=self.environment,
        )
        wait_until(self._started, "the container engine starts", START_S)
        return self

    def _started(self) -> bool:
        if self.process.poll() is not None:
            pytest.skip(f"no container engine starts here: {self.log.strip().splitlines()[-1]}")
        return self.call("version", check=False).returncode == 0

    def kill(self) -> None:
        """End it by SIGTERM, so that it ends its containers and its containerd."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_S)
        shutil.rmtree(self._run)

    def call(
        self,
        *arguments: str,
        check: bool = True,
        timeout_s: float = BUILD_S,
        cwd: Path | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run `docker` with these arguments."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the engine tells of a container."""
        [found] = json.loads(self.call("container", "inspect", name).stdout)
        return dict(found)

    def provide_images(self, images: Sequence[str], directory: Path) -> None:
        """Build the stand-ins for images such as `redis:7.2.14-alpine`, and the base of our own."""
        if not self.call("image", "ls", "--quiet", BASE).stdout:
            self.call("import", str(self._there / "base.tar"), BASE)
        make_kafka_home(directory / "kafka-home")
        for image in images:
            target = image.partition(":")[0].rpartition("/")[2]
            self.call(
                *("build", "--network", "none", "--target", target, "--tag", image),
                *("--build-context", f"kafka-home={directory / 'kafka-home'}"),
                str(TESTS / "engine"),
            )


@contextmanager
def running_engine(directory: Path) -> Iterator[ContainerEngine]:
    """One engine at a time has the images of the cache directory."""
    with (provisioned() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ContainerEngine(directory) as engine:
            yield engine
