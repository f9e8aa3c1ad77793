"""Envoy as a process, with the filters and the access log that its page shows."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ruamel.yaml import YAML

from tests.support.owned_process import OwnedProcess
from tests.support.paths import ROOT
from tests.support.producers import ENVOY, producers_python
from tests.support.servers import wait_until
from tokenpulse.local.embedded import free_port, listens

PAGE = ROOT / "docs" / "sources" / "envoy_ai_gateway.md"


@dataclass(frozen=True, slots=True)
class Envoy:
    """The address of a running Envoy, and the file of its access log."""

    url: str
    access_log: Path


@contextmanager
def envoy(provider_url: str, directory: Path) -> Iterator[Envoy]:
    """Yield an Envoy before the provider; its files are in the directory.

    Calls below `/silent/` and `/hasty/` wait for a server that never answers, those below
    `/nowhere/` meet none.
    """
    access_log, configuration = directory / "access.jsonl", directory / "envoy.yaml"
    command = [str(producers_python("envoy").with_name("envoy")), "-c", str(configuration)]
    # The base id is for the shared memory of restarts: other Envoys of the machine are not met.
    command += ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"]
    command += ["--file-flush-interval-msec", "50"]
    log = directory / "envoy.log"
    process = OwnedProcess("Envoy", log)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = free_port()
        upstream = {
            "provider": urlsplit(provider_url).port,
            "silent": silent.getsockname()[1],
            "nowhere": free_port(),
        }
        with configuration.open("w") as file:
            YAML(typ="safe").dump(_configuration(port, upstream, access_log), file)
        try:
            process.run(command)
            wait_until(lambda: listens("127.0.0.1", port), f"Envoy listens: {log}")
            yield Envoy(f"http://127.0.0.1:{port}", access_log)
        finally:
            process.kill()


def _configuration(port: int, upstream: Mapping[str, int | None], access_log: Path) -> Any:
    configuration = YAML(typ="safe").load(ENVOY)
    [listener] = configuration["static_resources"]["listeners"]
    listener["address"]["socket_address"]["port_value"] = port
    for cluster in configuration["static_resources"]["clusters"]:
        [locality] = cluster["load_assignment"]["endpoints"]
        [host] = locality["lb_endpoints"]
        host["endpoint"]["address"]["socket_address"]["port_value"] = upstream[cluster["name"]]
    [chain] = listener["filter_chains"]
    [manager] = chain["filters"]
    manager["typed_config"] |= _page_settings(access_log)
    return configuration


def _page_settings(access_log: Path) -> Any:
    """Return what the page puts into the connection manager, with the log in a file."""
    _, _, section = PAGE.read_text().partition("\n## Envoy alone\n")
    settings = YAML(typ="safe").load(section.partition("```yaml\n")[2].partition("```")[0])
    [log] = settings["access_log"]
    log["typed_config"]["path"] = str(access_log)
    return settings
