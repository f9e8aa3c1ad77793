"""Times that a real Prometheus needs for each group of the compiled rules, with a large page.

50 models in 10 regions over 3 channels are 1,500 series, and most requests of each fail, so that no
part of a rule is empty. Prometheus scrapes that page every 5 s and evaluates the rules of
`alerts/generated` as often. Printed are the median and the shortest of the evaluations of each
group, the slowest group first, and the slowest rules.

Needs `prometheus`, and two minutes.
"""

import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from bench import prometheus
from bench.large_page import exported_page

CHANNELS = 3
STEP_S = 5
EVALUATIONS = 12
RULES = Path(__file__).resolve().parent.parent / "alerts" / "generated" / "prometheus"


def serve(page: bytes) -> ThreadingHTTPServer:
    """Answer each request with a page, in a thread of its own, until `shutdown`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            """Log no request."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def measure(url: str) -> None:
    """Print the times of the groups and of the slowest rules."""
    groups_s, rules_s = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for _ in range(EVALUATIONS):
        time.sleep(STEP_S)
        with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=60) as answer:
            found = json.load(answer)["data"]["groups"]
        for group in found:
            groups_s[group["name"]].append(group["evaluationTime"])
            for rule in group["rules"]:
                labels = " ".join(rule.get("labels", {}).values())
                rules_s[f"{rule['name']} {labels}"].append(rule["evaluationTime"])
    for title, times_s in (("group", groups_s), ("rule", rules_s)):
        print(f"  median  shortest  {title}")
        ranked = sorted(times_s.items(), key=lambda one: -statistics.median(one[1]))
        for name, measured_s in ranked[:12]:
            middle_ms, least_ms = statistics.median(measured_s) * 1e3, min(measured_s) * 1e3
            print(f"{middle_ms:5.0f} ms  {least_ms:5.0f} ms  {name}")


def main() -> None:
    """Measure all groups once."""
    prometheus.require("prometheus")
    samples = exported_page(CHANNELS)
    # An exemplar follows ` # `, which the plain format does not have.
    server = serve("\n".join([*(line.split(" # ")[0] for line in samples), ""]).encode())
    config = {
        "global": {"scrape_interval": f"{STEP_S}s", "evaluation_interval": f"{STEP_S}s"},
        "rule_files": [f"{RULES}/*.yml"],
        "scrape_configs": [
            {
                "job_name": "tokenpulse-exporter",
                "static_configs": [{"targets": [f"127.0.0.1:{server.server_port}"]}],
            }
        ],
    }
    print(f"{len(samples)} samples")
    with tempfile.TemporaryDirectory(prefix="tokenpulse-rules-") as name:
        directory = Path(name)
        with prometheus.running(directory, yaml.safe_dump(config), directory / "data") as url:
            # The first scrape takes longer, as all its series are new.
            time.sleep(3 * STEP_S)
            measure(url)
    server.shutdown()


if __name__ == "__main__":
    main()
