"""Pictures of the Grafana dashboards, drawn in a browser by the components that Grafana publishes.

    bash tests/provision.sh drawing
    python -m tests.support.grafana_drawing [address of a Prometheus, such as http://127.0.0.1:9090]

writes artifacts/dashboards: each dashboard at 1440 pixels and on a phone, dark and light, with the
last ten minutes of that Prometheus. Without an address it starts Tokenpulse, simulated traffic and
a Prometheus, and waits three minutes. Ends with status 1, and says why, if a panel cannot be drawn,
a number is empty, a title is cut off at 1440 pixels, or people have to scroll sideways.

Run by hand after a change of the look of a dashboard: it needs npm, which loads 650 MB.
"""

import asyncio
import json
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.support.browser import Browser, Page
from tests.support.grafana_boards import BOARDS
from tests.support.grafana_stack import GrafanaStack
from tests.support.loopback_http import serving
from tests.support.producers import CACHE

BUILT = CACHE / "grafana-drawing"
WIDTH, PHONE = 1440, 390
# Tables draw only the rows that are on the screen.
HEIGHT = 6_000
SINCE, TRAFFIC_S = "now-10m", 180
DRAWN_S = 120  # on a loaded machine; 3 s on an idle one

# Each a script whose value is a list of titles.
FAULTS = {
    "cannot be drawn": (
        "Object.entries(window.drawn).filter(([, drawn]) => drawn.problem)"
        ".map(([title, drawn]) => `${title}: ${drawn.problem}`)"
    ),
    "is empty": (
        "[...document.querySelectorAll('[data-kind=stat] section')]"
        ".filter(panel => panel.innerText.trim() === panel.querySelector('h2').innerText)"
        ".map(panel => panel.querySelector('h2').innerText)"
    ),
    "is wider than the screen": (
        "document.documentElement.scrollWidth > innerWidth ? [document.title] : []"
    ),
}
# On a phone each panel has the whole width.
CUT_OFF = (
    "[...document.querySelectorAll('section h2')]"
    ".filter(title => title.scrollWidth > title.clientWidth).map(title => title.innerText)"
)


class _Files(SimpleHTTPRequestHandler):
    """The page, and the committed dashboards by their names."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(BUILT))

    def do_GET(self) -> None:
        name = Path(self.path).stem
        if self.path != f"/boards/{name}.json":
            super().do_GET()
            return
        body = json.dumps(BOARDS[name]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Stay silent."""


def draw(prometheus: str) -> list[str]:
    """Write all pictures, with what a Prometheus answers; return what is wrong with them."""
    if not (BUILT / "index.html").exists():
        raise SystemExit(f"{BUILT} is not there: run `bash tests/provision.sh drawing`")
    with serving(_Files) as address:
        return asyncio.run(_draw_all(address, prometheus, int(time.time()) - 1))


async def _draw_all(address: str, prometheus: str, end_s: int) -> list[str]:
    wrong = []
    async with Browser.start() as browser:
        for name, theme, width in _pictures():
            asked = {"board": f"boards/{name}.json", "prometheus": prometheus, "theme": theme}
            query = urllib.parse.urlencode({**asked, "from": SINCE, "end_s": end_s})
            page = await browser.open(f"{address}/?{query}", width=width, height=HEIGHT)
            await page.wait_for("window.expected?.every(title => title in window.drawn)", DRAWN_S)
            # Of the screen, no more than the dashboard has.
            end = await page.evaluate("Math.ceil(document.body.lastElementChild.scrollHeight) + 32")
            await page.command(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=end,
                deviceScaleFactor=1,
                mobile=False,
            )
            picture = await page.screenshot(f"dashboards/{name}-{theme}-{width}.png")
            print(picture)
            wrong += [f"{picture.name}: {fault}" for fault in await _faults(page, width)]
    return wrong


def _pictures() -> Iterator[tuple[str, str, int]]:
    for name in BOARDS:
        for theme in ("dark", "light"):
            for width in (WIDTH, PHONE):
                yield name, theme, width


async def _faults(page: Page, width: int) -> list[str]:
    scripts = {**FAULTS, "has its title cut off": CUT_OFF} if width == WIDTH else FAULTS
    found = [
        f"{title} {fault}"
        for fault, script in scripts.items()
        for title in await page.evaluate(script)
    ]
    return found + [f"the browser complains: {line}" for line in page.console]


def main() -> None:
    """Draw with the given Prometheus, or with one of its own."""
    if len(sys.argv) > 1:
        wrong = draw(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as directory, GrafanaStack(Path(directory)) as stack:
            time.sleep(TRAFFIC_S)
            wrong = draw(stack.prometheus.url)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
