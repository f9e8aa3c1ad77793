"""A headless Chromium for tests, driven over the DevTools protocol.

    async with Browser.start() as browser:
        page = await browser.open(url, width=360, height=740, dark=True, mobile=True)
        await page.wait_for("document.title !== ''", 5)

Skips where there is no Chromium. A page has cookies and a cache of its own; what it asked for and
what it complained about is kept in `requests` and `console`.
"""

import asyncio
import base64
import itertools
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.support.paths import ROOT
from tests.support.programs import demand_stack_mark, find_program

# Artefacts of a run, for people to look at: git-ignored.
ARTIFACTS = ROOT / "artifacts"
# Debian's wrapper script of this name leaves the browser behind when it is ended.
HEADLESS_SHELL = Path("/usr/lib/chromium/chromium-headless-shell")
NAMES = ("headless_shell", "chrome-headless-shell", "chromium", "chromium-browser", "google-chrome")
START_S = 30
COMMAND_S = 30
FLAGS = (
    "--headless",
    "--remote-debugging-port=0",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
# key -> (code, Windows virtual key code, text)
KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Space": ("Space", 32, " "),
    "Escape": ("Escape", 27, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "End": ("End", 35, ""),
    "Home": ("Home", 36, ""),
}
SHIFT = 8


def chromium() -> str:
    """Path of the browser; skips the test where there is none."""
    demand_stack_mark("Chromium")
    if HEADLESS_SHELL.exists():
        return str(HEADLESS_SHELL)
    return find_program(*NAMES)


class BrowserError(Exception):
    """The browser refused a command, or a script in a page threw."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the accessibility tree, as a screen reader is told of it."""

    role: str
    name: str
    properties: dict[str, Any]


@dataclass(slots=True)
class Page:
    """One open page. `requests`: every URL it asked for; `console`: errors and warnings."""

    _browser: "Browser"
    _session: str
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    loaded: asyncio.Event = field(default_factory=asyncio.Event)

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Any DevTools command, for what has no method here."""
        return await self._browser.command(method, self._session, **parameters)

    async def goto(self, url: str) -> None:
        """Go there and wait until everything is loaded."""
        self.loaded.clear()
        answer = await self.command("Page.navigate", url=url)
        if error := answer.get("errorText"):
            raise BrowserError(f"{url}: {error}")
        await asyncio.wait_for(self.loaded.wait(), COMMAND_S)

    async def evaluate(self, script: str) -> Any:
        """Value of an expression in the page; a promise is waited for."""
        answer = await self.command(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if problem := answer.get("exceptionDetails"):
            thrown = problem.get("exception", {})
            raise BrowserError(thrown.get("description") or problem["text"])
        return answer["result"].get("value")

    async def wait_for(self, script: str, timeout_s: float = 10) -> Any:
        """Value of an expression as soon as it is true; fails, saying which, if it never is."""
        deadline_s = time.monotonic() + timeout_s
        while not (value := await self.evaluate(script)):
            assert time.monotonic() < deadline_s, f"waited {timeout_s} s: {script}"
            await asyncio.sleep(0.05)
        return value

    async def screenshot(self, path: Path | str, full: bool = True) -> Path:
        """Write a PNG; a relative path is below artifacts/. `full`: also what is below the fold."""
        target = ARTIFACTS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = {"format": "png", "captureBeyondViewport": full}
        if full:
            size = (await self.command("Page.getLayoutMetrics"))["cssContentSize"]
            options["clip"] = {**size, "scale": 1}
        answer = await self.command("Page.captureScreenshot", **options)
        target.write_bytes(base64.b64decode(answer["data"]))
        return target

    async def pdf(self, **options: Any) -> bytes:
        """The page as printed; options of Page.printToPDF."""
        return base64.b64decode((await self.command("Page.printToPDF", **options))["data"])

    async def press(self, key: str) -> None:
        """A key of the keyboard, such as `Tab` or `Shift+Tab`."""
        *modifiers, name = key.split("+")
        code, number, text = KEYS[name]
        what = {
            "key": text.strip() or name,
            "code": code,
            "windowsVirtualKeyCode": number,
            "modifiers": SHIFT if modifiers == ["Shift"] else 0,
        }
        await self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **what)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **what)

    async def accessibility(self) -> list[Node]:
        """What a screen reader meets, in order; ignored nodes left out."""
        tree = await self.command("Accessibility.getFullAXTree")
        return [
            Node(
                node["role"]["value"],
                node.get("name", {}).get("value", ""),
                {one["name"]: one["value"].get("value") for one in node.get("properties", ())},
            )
            for node in tree["nodes"]
            if not node["ignored"]
        ]

    def hear(self, method: str, said: dict[str, Any]) -> None:
        """An event of the protocol."""
        match method:
            case "Page.loadEventFired":
                self.loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(said["request"]["url"])
            case "Runtime.exceptionThrown":
                details = said["exceptionDetails"]
                self.console.append(
                    details.get("exception", {}).get("description") or details["text"]
                )
            case "Runtime.consoleAPICalled" if said["type"] in ("error", "warning", "assert"):
                words = [str(one.get("value", one.get("description"))) for one in said["args"]]
                self.console.append(" ".join(words))
            case "Log.entryAdded" if said["entry"]["level"] in ("error", "warning"):
                entry = said["entry"]
                self.console.append(f"{entry['text']} {entry.get('url', '')}".strip())


class Browser:
    """A running Chromium; made by `start`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._hearers: dict[str, Callable[[str, dict[str, Any]], None]] = defaultdict(
            lambda: lambda method, said: None
        )

    @classmethod
    @asynccontextmanager
    async def start(cls) -> AsyncIterator[Self]:
        """Start it with a profile of its own; when the context ends nothing of it is left."""
        program = chromium()
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            process = await asyncio.create_subprocess_exec(
                program,
                *FLAGS,
                *root,
                f"--user-data-dir={profile}",
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                url = await _debugger_url(Path(profile), process)
                async with (
                    aiohttp.ClientSession() as session,
                    # A screenshot of a long page is large.
                    session.ws_connect(url, max_msg_size=0) as socket,
                ):
                    browser = cls(socket)
                    listening = asyncio.create_task(browser._listen())
                    try:
                        yield browser
                    finally:
                        with suppress(BrowserError, TimeoutError, ConnectionError):
                            await browser.command("Browser.close")
                        listening.cancel()
            finally:
                await _end(process)

    async def open(
        self,
        url: str,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        mobile: bool = False,
        *,
        script: bool = True,
        reduced_motion: bool = False,
    ) -> Page:
        """A new page at `url`, loaded. Sizes in CSS pixels; `script`: whether JavaScript is on."""
        context = (await self.command("Target.createBrowserContext"))["browserContextId"]
        target = await self.command(
            "Target.createTarget", url="about:blank", browserContextId=context
        )
        attached = await self.command(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"])
        self._hearers[attached["sessionId"]] = page.hear
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            await page.command(f"{domain}.enable")
        await page.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if mobile else 1,
            mobile=mobile,
        )
        await page.command(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {
                    "name": "prefers-reduced-motion",
                    "value": "reduce" if reduced_motion else "no-preference",
                },
            ],
        )
        await page.command("Emulation.setScriptExecutionDisabled", value=not script)
        await page.goto(url)
        return page

    async def command(
        self, method: str, session: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Send a command and return its answer."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        said: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            said["sessionId"] = session
        await self._socket.send_json(said)
        return await asyncio.wait_for(answer, COMMAND_S)

    async def _listen(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" not in said:
                self._hearers[said.get("sessionId", "")](said["method"], said["params"])
                continue
            waiting = self._answers.pop(said["id"])
            if waiting.done():
                continue
            if "error" in said:
                waiting.set_exception(BrowserError(said["error"]["message"]))
            else:
                waiting.set_result(said["result"])
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(BrowserError("the browser has ended"))


async def _debugger_url(profile: Path, process: asyncio.subprocess.Process) -> str:
    """Where it listens: Chromium writes that down in its profile once it does."""
    written = profile / "DevToolsActivePort"
    deadline_s = time.monotonic() + START_S
    while not written.exists() or written.read_text().count("\n") < 1:
        assert process.returncode is None, f"Chromium ended with status {process.returncode}"
        assert time.monotonic() < deadline_s, f"Chromium did not start within {START_S} s"
        await asyncio.sleep(0.02)
    port, path = written.read_text().splitlines()
    return f"ws://127.0.0.1:{port}{path}"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 3)
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
