"""A real Alertmanager with the shipped configuration, and a receiver of its messages."""

import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.checks import not_none
from tests.support.paths import ROOT
from tests.support.programs import needs_programs
from tests.support.servers import wait_until

CONFIG = ROOT / "alerts" / "alertmanager" / "alertmanager.yml"
TEMPLATES = CONFIG.parent / "templates" / "tokenpulse.tmpl"
AMTOOL = shutil.which("amtool")
SERVER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
needs_alertmanager = needs_programs(amtool=AMTOOL, alertmanager=SERVER)


def amtool(*arguments: object) -> str:
    """Return what amtool prints; it must succeed."""
    command = [not_none(AMTOOL), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def readable(text: str, url: str = "http://127.0.0.1:9/hook") -> str:
    """The configuration as an Alertmanager before 0.26 reads it."""
    version = subprocess.run([not_none(AMTOOL), "--version"], capture_output=True, text=True)
    said = version.stdout + version.stderr
    major, minor = map(int, not_none(re.search(r"version (\d+)\.(\d+)", said)).groups())
    if (major, minor) >= (0, 26) and "9/hook" in url:
        return text
    return re.sub(r"- url_file: /run/secrets/(\w+)", rf"- url: {url}/\1", text)


class Receiver:
    """What reaches the outside, by path."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, json.loads(body)))
                # An Alertmanager that is ended does not wait for the answer.
                with suppress(BrokenPipeError):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def at(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body in self.got if where == path]


class Alertmanager:
    def __init__(self, config: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api/v2"
        self.process = subprocess.Popen(
            [
                *(
                    not_none(SERVER),
                    f"--config.file={config}",
                    f"--storage.path={config.parent}/data",
                ),
                *(f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._is_ready, "Alertmanager is ready")

    def _is_ready(self) -> bool:
        try:
            return bool(self.ask("/status"))
        except OSError:
            return False

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=5) as answer:
            return json.load(answer)

    def tell(self, *alerts: dict[str, str], **annotations: str) -> None:
        now = datetime.now(UTC).isoformat()
        body = [{"labels": one, "annotations": annotations, "startsAt": now} for one in alerts]
        asked = urllib.request.Request(
            self.url + "/alerts",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(asked, timeout=5).close()

    def states(self) -> dict[str, list[str]]:
        """Labels of the alerts, by whether they are active or suppressed by another."""
        found: dict[str, list[dict[str, str]]] = {"active": [], "suppressed": []}
        for alert in self.ask("/alerts"):
            found.setdefault(alert["status"]["state"], []).append(alert["labels"])
        return {state: canonical(labels) for state, labels in found.items()}


def canonical(alerts: list[dict[str, str]]) -> list[str]:
    return sorted(json.dumps(labels, sort_keys=True) for labels in alerts)
