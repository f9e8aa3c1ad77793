"""The live board over all that makes its numbers: broker, Redis, worker, exporter, traffic."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from streams.config.settings import Exporter, Settings
from tests.support.alerting_stack import running
from tests.support.browser import Browser, Page
from tests.support.checks import not_none
from tests.support.paths import ROOT
from tests.support.worker_process import START_S, State, WorkerProcess, tokenpulse
from tokenpulse.local.stack import LocalStack

pytestmark = pytest.mark.stack

EVENTS_PER_S = 40
# Short, so that a test sees a worker missed, and longer than a busy machine keeps one waiting.
STALE_AFTER_S = 5

READ = """(() => {
  const value = (of) => {
    const text = document.querySelector(of).dataset.value;
    return text === '' ? null : Number(text);
  };
  const tile = (key) => [value(`#tile-${key} .value .num`), value(`#tile-${key} .samples .num`)];
  const places = (id) => Object.fromEntries(
    [...document.querySelectorAll(`#${id} [data-place]`)].map((row) => [
      row.dataset.place,
      Object.fromEntries([...row.querySelectorAll('[data-metric]')].map((cell) => {
        const text = cell.querySelector('.num').dataset.value;
        return [cell.dataset.metric, text === '' ? null : Number(text)];
      })),
    ]),
  );
  const [from, to] = [...document.querySelectorAll('#status .sub time')].map((at) => at.dateTime);
  return {
    from, to, requests: value('#requests .num'), tokens: value('#tokens-sum .num'),
    ttft: tile('ttft'), tpot: tile('tpot'), cache: tile('cache'),
    availability: tile('availability'),
    models: places('models'), regions: places('regions'),
  };
})()"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalStack, WorkerProcess]]:
    """Everything with one worker; half an hour of traffic is counted, and none comes."""
    asked = Settings(exporter=Exporter(port=0, stale_after_s=STALE_AFTER_S))
    log = tmp_path_factory.mktemp("board") / "worker.log"
    with (
        LocalStack(asked, workers=0, exporter=True, simulate=False) as local,
        WorkerProcess(local.settings, log) as worker,
    ):
        sent = simulated(local, "--for", "30m", "--ending-now")
        with redis.Redis.from_url(local.redis_url) as client:
            State(local.settings, client).wait_past([0], sent - 1)
        yield local, worker


def simulated(local: LocalStack, *asked: Any) -> int:
    """Send traffic to its end; how many events that were."""
    sent = tokenpulse("simulate", "--rate", EVENTS_PER_S, *asked, settings=local.settings)
    assert sent.returncode == 0, sent.stderr
    return int(sent.stdout.split()[0])


@contextmanager
def traffic(local: LocalStack, directory: Path) -> Iterator[None]:
    """Traffic that goes on."""
    command = [sys.executable, "-m", "tokenpulse.cli.main", "simulate", "--rate", str(EVENTS_PER_S)]
    variables = {**local.environment, "PYTHONPATH": str(ROOT)}
    with running(command, directory / "simulate.log", variables):
        yield


@asynccontextmanager
async def opened(local: LocalStack, **options: Any) -> AsyncIterator[Page]:
    """The live board, with numbers on it."""
    async with Browser.start() as browser:
        page = await browser.open(f"{local.exporter_url}/", **options)
        await page.wait_for("document.querySelector('#live').textContent === 'Live'", START_S)
        await page.wait_for("document.querySelector('#tile-ttft .num')?.dataset.value", START_S)
        await page.evaluate("window.same = true")
        yield page
        assert await page.evaluate("window.same"), "it never was loaded again"


def report(local: Any, shown: Any, by: str) -> Any:
    """What the report says of the very range that the page shows."""
    asked = ("--from", shown["from"], "--to", shown["to"], "--step", "10s", "--by", by)
    found = tokenpulse("report", "--json", *asked, settings=local.settings)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_every_number_on_the_page_is_the_report_s(stack: tuple[LocalStack, WorkerProcess]) -> None:
    local, _ = stack

    async def read() -> Any:
        async with opened(local) as page:
            waiting = "document.querySelectorAll('#freshness dd .num')[1].dataset.value"
            await page.wait_for(f"{waiting} === '0'", START_S)
            await page.screenshot("board-stack-desktop.png")
            assert page.console == []
            assert all(url.startswith(local.exporter_url) for url in page.requests)
            return await page.evaluate(READ)

    shown = asyncio.run(read())
    for group in ("model", "region"):
        found = report(local, shown, group)
        total = found["total"]
        assert total["requests"] > 0
        assert shown["requests"] == total["requests"]
        assert shown["tokens"] == total["tokens"]["total"]
        for measure in ("ttft", "tpot"):
            said = total[f"{measure}_seconds"]
            assert shown[measure] == [said["p95"], said["count"]]
        assert shown["cache"] == [total["cache_hit_ratio"], total["tokens"]["input"]]
        assert shown["availability"][0] == total["availability_ratio"]
        assert shown[f"{group}s"] == {
            one["key"][group]: {
                "availability": one["total"].get("availability_ratio"),
                "ttft": one["total"].get("ttft_seconds", {}).get("p95"),
                "tpot": one["total"].get("tpot_seconds", {}).get("p95"),
                "cache": one["total"].get("cache_hit_ratio"),
                "requests": one["total"]["requests"],
            }
            for one in found["groups"]
        }


def test_new_traffic_is_on_the_page_without_a_reload(
    stack: tuple[LocalStack, WorkerProcess], tmp_path: Path
) -> None:
    local, _ = stack

    async def check() -> None:
        async with opened(local, width=360, height=740, mobile=True) as page:
            newest = "document.querySelector('#freshness dd .num').dataset.value"
            with traffic(local, tmp_path):
                await page.wait_for(f"Number({newest}) < 3 && {newest} !== ''", START_S)
                at = await page.evaluate("document.querySelector('#made-at time').dateTime")
                await page.wait_for(
                    f"document.querySelector('#made-at time').dateTime > '{at}'", START_S
                )
                await page.screenshot("board-stack-phone.png")

    asyncio.run(check())


def test_a_worker_that_stops_makes_the_numbers_old_until_it_works_again(
    stack: tuple[LocalStack, WorkerProcess], tmp_path: Path
) -> None:
    local, worker = stack
    old = (
        "document.querySelector('#freshness').dataset.state === 'breached'"
        " && document.querySelector('.tiles').hasAttribute('data-aged')"
    )
    fresh = (
        "document.querySelector('#freshness')?.dataset.state === 'ok'"
        " && !document.querySelector('.tiles').hasAttribute('data-aged')"
    )

    async def check() -> None:
        async with opened(local, dark=True) as page:
            with traffic(local, tmp_path):
                await page.wait_for(fresh, START_S)
                worker.signal(signal.SIGSTOP)
                try:
                    await page.wait_for(old, START_S)
                    assert await page.evaluate("document.querySelectorAll('#incidents li').length")
                    await page.screenshot("board-stack-worker-stopped.png")
                finally:
                    worker.signal(signal.SIGCONT)
                await page.wait_for(fresh, 60)

    asyncio.run(check())


def test_a_killed_exporter_is_missed_and_found_again(
    stack: tuple[LocalStack, WorkerProcess],
) -> None:
    local, _ = stack

    async def check() -> None:
        async with opened(local) as page:
            pid = local.pid("exporter")
            os.kill(not_none(pid), signal.SIGKILL)
            await page.wait_for("document.querySelector('#live').textContent !== 'Live'", START_S)
            await page.wait_for("document.querySelector('#live').textContent === 'Live'", 60)
            assert local.pid("exporter") != pid
            await page.wait_for("document.querySelector('#tile-ttft .num')?.dataset.value", START_S)

    asyncio.run(check())
