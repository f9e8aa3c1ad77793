"""LiteLLM's proxy as a process, in the environment that `bash tests/provision.sh` makes."""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.producers import LITELLM_PROXY, producers_python
from tests.support.servers import wait_until
from tokenpulse.local.embedded import free_port

START_S = 240  # it imports for 30 s on an idle core


@dataclass(frozen=True, slots=True)
class LiteLLMProxy:
    """The address of a running proxy, and the key that it accepts."""

    url: str
    key: str
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        """End it with SIGINT, so that it exports its last spans."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def logging_environment(events_url: str, traces_url: str, batch: int) -> dict[str, str]:
    """Return the variables with which LiteLLM logs, each log as one record.

    A client that left, and attempts, are known only within a record (docs/otlp.md).
    """
    return {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no look-up of prices
        "LITELLM_OTEL_V2": "true",
        "OTEL_EXPORTER": "otlp_http",
        "OTEL_ENDPOINT": f"{traces_url}/v1/traces",
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
        "EVENTS": f"{events_url}/v1/events",
        "GENERIC_LOGGER_ENDPOINT": f"{events_url}/v1/events",
        "DEFAULT_BATCH_SIZE": str(batch),
        "DEFAULT_FLUSH_INTERVAL_SECONDS": "600",
    }


@contextmanager
def litellm_proxy(environment: Mapping[str, str], log: Path) -> Iterator[LiteLLMProxy]:
    """Yield a proxy that is ready."""
    python = producers_python("litellm")
    port, key = free_port(), f"sk-{secrets.token_hex(16)}"
    command = [str(python.with_name("litellm")), "--config", str(LITELLM_PROXY)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env={**os.environ, **environment, "MASTER_KEY": key},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    proxy = LiteLLMProxy(f"http://127.0.0.1:{port}", key, process)
    try:
        wait_until(lambda: _is_ready(proxy), f"the proxy is ready: {log}", START_S)
        yield proxy
    finally:
        process.kill()
        process.wait()


def _is_ready(proxy: LiteLLMProxy) -> bool:
    assert proxy.process.poll() is None, "the proxy has ended"
    try:
        with urlopen(f"{proxy.url}/health/liveliness", timeout=2):
            return True
    except (URLError, TimeoutError, ConnectionError):
        return False
