"""A real Prometheus for the benchmarks of queries and rules."""

import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenpulse.local.embedded import free_port


def require(*programs: str) -> None:
    """Raise SystemExit if a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            raise SystemExit(f"{program}: not found; install Prometheus (tests/provision.sh)")


@contextmanager
def running(directory: Path, config: str, data: Path) -> Iterator[str]:
    """Yield the address of a Prometheus with a configuration and a folder for its data."""
    file = directory / "prometheus.yml"
    file.write_text(config)
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={data}"]
    with (directory / "prometheus.log").open("w") as log:
        server = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], stdout=log, stderr=log
        )
    try:
        _wait_ready(f"http://{address}")
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(30)


def _wait_ready(url: str) -> None:
    """Return when Prometheus answers queries; raise SystemExit after a minute."""
    for _ in range(120):
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"{url}: Prometheus was not ready after 60 s")
