"""docker-compose.yml on a container engine, and a sender whose events are known.

The stack runs from a copy of the checkout, with ports and secrets of its own. Left out is Grafana,
as no package brings it.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import yaml

from tests.support.compose import document
from tests.support.container_engine import ContainerEngine
from tests.support.owned_process import NOTED_CHARACTERS
from tests.support.paths import ROOT
from tests.support.servers import wait_until
from tokenpulse.local.embedded import free_port

PROJECT = "tokenpulse-test"
UP_S = 600
SETTLED_S = 300  # on a loaded machine
POLL_S = 0.5
COPIED = (
    *("Dockerfile", ".dockerignore", "docker-compose.yml", "pyproject.toml", "README.md"),
    *("requirements-image.lock", "streams", "slo", "exporters", "alerts", "tokenpulse"),
    *("docs/runbooks", "deploy"),
)
DEBIAN_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
BATCH = 20  # events
PAUSE_S = 0.05
RETRY_S = 0.2
TIMEOUT_S = 10


class ContainerStack:
    """The services of the file as containers."""

    def __init__(self, engine: ContainerEngine, directory: Path) -> None:
        """`directory`: for the copy of the checkout."""
        self._engine, self.directory = engine, directory
        for name in COPIED:
            copy_path(ROOT / name, directory / name)
        make_secrets = ["bash", str(directory / "deploy/make-secrets.sh")]
        subprocess.run(make_secrets, check=True, capture_output=True)
        (directory / "without-grafana.yml").write_text(
            yaml.safe_dump({"services": {"grafana": {"profiles": ["absent"]}}})
        )
        self._ports = {name: str(free_port()) for name in ("BOARD_PORT", "INTAKE_PORT")}
        self.document = document(self._ports)
        engine.environment |= self._ports

    @property
    def image(self) -> str:
        """The name of our own image."""
        return str(self.document["services"]["worker"]["image"])

    @property
    def foreign_images(self) -> list[str]:
        """The images that the file and the Dockerfile name and that are not ours."""
        named = {service["image"] for service in self.document["services"].values()}
        text = (self.directory / "Dockerfile").read_text()
        bases = {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")}
        grafana = self.document["services"]["grafana"]["image"]
        return sorted(named - {self.image, grafana} | bases)

    def build(self, revision: str) -> None:
        """Build our image as docs/deploy.md says for an index of one's own."""
        pip_conf = self.directory / "pip.conf"
        settings, authorities = pip_settings()
        pip_conf.write_text(settings)
        self._engine.call(
            *("build", "--network", "host", "--build-arg", f"REVISION={revision}"),
            *("--secret", f"id=pip_conf,src={pip_conf}", "--secret", f"id=ca,src={authorities}"),
            *("--tag", self.image, str(self.directory)),
        )

    def compose(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run `docker compose` with these arguments."""
        files = ("--file", "docker-compose.yml", "--file", "without-grafana.yml")
        return self._engine.call(
            *("compose", "--project-name", PROJECT, *files, *arguments),
            check=check,
            timeout_s=UP_S,
            cwd=self.directory,
        )

    def up(self, *options: str, profiles: Sequence[str] = ()) -> None:
        """Start the services as docs/deploy.md says; return once they are healthy.

        On a loaded machine a health check may exceed its time, and `--wait` ends at the first one
        that fails. So it is repeated.
        """
        chosen = [part for profile in profiles for part in ("--profile", profile)]

        def is_up() -> bool:
            done = self.compose(*chosen, "up", "--detach", "--wait", *options, check=False)
            said.append(done.stderr)
            return done.returncode == 0

        said: list[str] = []
        try:
            wait_until(is_up, "all services are healthy", UP_S, POLL_S)
        except AssertionError as error:
            error.add_note(said[-1][-NOTED_CHARACTERS:])
            raise

    def containers(self, service: str) -> list[dict[str, Any]]:
        """Return what the engine tells of the containers of a service."""
        ids = self.compose("ps", "--all", "--quiet", service).stdout.split()
        return [self._engine.inspect(one) for one in ids]

    def container(self, service: str) -> dict[str, Any]:
        """Return what the engine tells of the one container of a service."""
        [found] = self.containers(service)
        return found

    def is_healthy(self, service: str) -> bool:
        """Return whether all containers of the service run and their health checks pass."""
        return all_healthy(self.containers(service))

    def crash(self, service: str) -> None:
        """Kill a container from within, and return once it is healthy again.

        The engine's own `kill` would count as a wish that it stays down.
        """
        before = self.container(service)
        os.kill(before["State"]["Pid"], signal.SIGKILL)
        self.wait_for_health(service, before["RestartCount"] + 1)

    def wait_for_health(self, service: str, restarts: int = 0) -> None:
        """Return once the service is healthy, and was restarted so often; fails with its log."""
        ids = [one["Id"] for one in self.containers(service)]

        def is_well() -> bool:
            containers = [self._engine.inspect(one) for one in ids]
            return containers[0]["RestartCount"] >= restarts and all_healthy(containers)

        try:
            wait_until(is_well, f"{service} is healthy", SETTLED_S, POLL_S)
        except AssertionError as error:
            error.add_note(self.compose("logs", "--tail", "20", service).stdout)
            raise

    def memory(self) -> dict[str, tuple[str, str]]:
        """Return used memory and limit of each container, as the engine writes them."""
        lines = self._engine.call("stats", "--no-stream", "--format", "json").stdout.splitlines()
        rows = {row["Name"]: row["MemUsage"].split(" / ") for row in map(json.loads, lines)}
        return {
            name.removeprefix(f"{PROJECT}-"): (used, most) for name, (used, most) in rows.items()
        }

    def addresses_of_bridge(self, network: str) -> list[str]:
        """Return the IPv4 addresses that this machine has in a network of the file."""
        wanted = f"{PROJECT}_{network}"
        id_ = self._engine.call("network", "inspect", "--format", "{{.Id}}", wanted).stdout
        bridge = f"br-{id_[:12]}"
        shown = ["ip", "-json", "address", "show", "dev", bridge]
        [link] = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)
        return [one["local"] for one in link["addr_info"] if one["family"] == "inet"]

    def exporter_json(self, *command: str) -> Any:
        """Return what a command of ours prints with the rights of the exporter."""
        done = self.compose("exec", "--no-TTY", "exporter", "tokenpulse", *command)
        return json.loads(done.stdout)

    def requests(self) -> int:
        """Return how many requests are counted in all."""
        return int(self.exporter_json("report", "--json")["total"]["requests"])

    def url(self, port: str) -> str:
        """Return the address of a published port, such as BOARD_PORT."""
        return f"http://127.0.0.1:{self._ports[port]}"

    def token(self) -> str:
        """Return the token of the sender that make-secrets.sh made."""
        text = (self.directory / "deploy/secrets/intake_tokens").read_text()
        return str(yaml.safe_load(text)["senders"][0]["token"])


def all_healthy(containers: list[dict[str, Any]]) -> bool:
    """Return whether there are containers, and all of them run and are healthy."""
    states = [one["State"] for one in containers]
    return bool(states) and all(
        state["Running"] and state["Health"]["Status"] == "healthy" for state in states
    )


def copy_path(source: Path, target: Path) -> None:
    """Copy a file, or a directory without byte code and secrets."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        shutil.copy(source, target)
        return
    left_out = shutil.ignore_patterns("__pycache__", "secrets")
    shutil.copytree(source, target, symlinks=True, ignore=left_out)


def pip_settings() -> tuple[str, Path]:
    """Return the settings that pip needs in the image's build, and the file of its authorities."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    # Variables come last, as they win.
    own = dict(re.findall(r"^\S+\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    kept = {name: own[name] for name in ("index-url", "trusted-host", "proxy") if name in own}
    settings = {**kept, "cert": "/run/secrets/ca"}
    lines = [f"{name} = {value}\n" for name, value in settings.items()]
    return "".join(["[global]\n", *lines]), Path(own.get("cert", DEBIAN_AUTHORITIES))


class Sender:
    """Sends events to the intake without a pause, each batch until the intake has confirmed it."""

    def __init__(self, url: str, token: str, name: str) -> None:
        """`name`: in the request ids, so that no two senders have the same."""
        self._url, self._token, self._name = f"{url}/v1/events", token, name
        self.confirmed = 0  # events
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._send_all, daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> int:
        """End after the batch that is on its way; return how many events were confirmed."""
        self._ending.set()
        self._thread.join(SETTLED_S)
        assert not self._thread.is_alive(), "the intake never confirmed a batch"
        return self.confirmed

    def _send_all(self) -> None:
        while not self._ending.is_set():
            batch = [event(f"{self._name}-{self.confirmed + at}") for at in range(BATCH)]
            while not self._is_confirmed(batch):
                time.sleep(RETRY_S)
            self.confirmed += BATCH
            time.sleep(PAUSE_S)

    def _is_confirmed(self, batch: list[Mapping[str, object]]) -> bool:
        request = urllib.request.Request(
            self._url,
            json.dumps(batch).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return bool(json.load(answer)["accepted"] == BATCH)
        except (OSError, HTTPException):
            return False


def event(request_id: str) -> Mapping[str, object]:
    """Return a good event that ends now."""
    return {
        "request_id": request_id,
        "ended_at": int(time.time() * 1000),
        "model": "opus",
        "outcome": "success",
        "region": "eu-west-1",
        "duration_ms": 900,
        "input_tokens": 100,
        "output_tokens": 20,
    }
