"""What an export says of a state as whole text, in both formats."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from typing import Any

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from exporters.catalogue.pipeline import EXPORTER
from exporters.catalogue.requests import SPECS
from exporters.metrics.exposition import Page
from exporters.reference.customers import Customer
from exporters.server.collector import Collector
from streams.config.settings import Settings
from streams.store.servers.client import connect
from streams.store.source_counts import REJECTED, SAMPLED, UNREAD_SPANS, PendingCounts
from tests.support.exporter_state import (
    NOW_S,
    StateWriter,
    event,
    export,
    parsed,
    some_events,
    token_of,
    write_state,
)
from tests.support.paths import TESTS
from tests.support.promtool import needs_promtool
from tests.support.source_history import sent, steady, write_sources
from tests.support.two_clocks import TwoClocks, right_clock

GOLDEN = TESTS / "golden" / "metrics.txt"
LIVE = [spec for spec in SPECS if spec not in EXPORTER.specs]


# -- the whole text --------------------------------------------------------------------------------


def tiny_state(settings: Settings) -> None:
    write_state(
        settings,
        {
            0: [
                event(NOW_S - 2),
                event(NOW_S - 1, outcome="server_error", duration_ms=40),
                event(NOW_S, probe=True),
                b"not json",
            ],
        },
    )


def test_the_whole_text_of_a_tiny_state(configured: Callable[..., Any]) -> None:
    settings = configured(windows=["5m"], series_windows=[], customer_windows=["1h"])
    tiny_state(settings)
    text = export(settings).page.text(openmetrics=True).decode()
    if os.environ.get("REWRITE_GOLDEN"):  # then review the difference
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def full_state(settings: Settings) -> None:
    """Write all that can be exported: probes, rejections, several partitions, one halted."""

    async def write() -> None:
        writer = StateWriter(settings)
        events = some_events(3, 400, NOW_S - 900, NOW_S)
        events += [
            event(NOW_S, final=False, outcome="timeout"),
            event(NOW_S, requested_service_tier="priority", ending="complete"),
            event(NOW_S, first_visible_token_ms=900),
            event(NOW_S, outcome="client_error", error_class="auth"),
        ]
        await writer.write(0, events[::2])
        await writer.write(1, [*events[1::2], b"not json", event(NOW_S, model='a"b\\c')])
        memory = dict.fromkeys(("memory_bytes", "memory_limit_bytes"), 5)
        memory |= {f"store_{name}": value for name, value in memory.items()}
        await writer.send_heartbeat(
            1, NOW_S, halted="unreadable", archived_ms=NOW_S * 1_000, **memory
        )
        await writer.close()

    asyncio.run(write())
    pending = PendingCounts()
    pending.declare(("batch",), NOW_S)
    steady(pending, "gateway", NOW_S - 2 * 86_400, NOW_S, 5)
    every_kind = {SAMPLED: 1, REJECTED: 1, UNREAD_SPANS: 1}
    pending.add(sent("gateway", 1, every_kind), NOW_S)
    write_sources(settings, [pending])


def full_page(settings: Settings) -> Page:
    """Two exports with a checkpoint between them: only then freshness is known."""
    full_state(settings)

    async def collect() -> Page:
        client = connect(settings.redis.url, 5)
        collector = Collector(settings, client, {token_of("acme"): Customer('A "corp" \\', "ent")})
        await collector.collect(right_clock(NOW_S))
        writer = StateWriter(settings)
        await writer.write(0, [event(NOW_S)])
        await writer.close()
        clock = TwoClocks(NOW_S + 1, NOW_S + 0.9)
        found = await collector.collect(clock)
        await client.aclose()
        return found.page

    return asyncio.run(collect())


def test_what_is_declared_is_exported_and_nothing_else(configured: Callable[..., Any]) -> None:
    contract = str(TESTS / "policies" / "contract.yaml")
    silent = str(TESTS / "policies" / "silent.yaml")
    prices = str(TESTS / "prices" / "models.yaml")
    settings = configured(policies=["default", contract, silent], price_book=prices)
    text = full_page(settings).text(openmetrics=False)
    families = {family.name for family in text_string_to_metric_families(text.decode())}
    declared = {spec.name.removesuffix("_total") for spec in LIVE}
    own = {"tokenpulse_state_readable"}  # added by the process, see test_exporter_server.py
    assert families == declared - own
    labels_of = {spec.name: set(spec.labels) for spec in LIVE}
    for name, labels in parsed(text):
        stem = name
        for suffix in ("_bucket", "_sum", "_count"):
            if name not in labels_of:
                stem = name.removesuffix(suffix) if name.endswith(suffix) else stem
        assert {label for label, _ in labels} <= labels_of[stem] | {"le"}


def test_both_formats_say_the_same(configured: Callable[..., Any]) -> None:
    page = full_page(configured())
    openmetrics = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in openmetrics_families(page.text(openmetrics=True).decode())
        for sample in family.samples
    }
    assert openmetrics == parsed(page.text(openmetrics=False))
    assert len(openmetrics) == page.samples


def test_label_values_are_escaped(configured: Callable[..., Any]) -> None:
    text = full_page(configured()).text(openmetrics=False).decode()
    assert 'customer="A \\"corp\\" \\\\",segment="ent"' in text
    samples = parsed(text.encode())
    assert any(("customer", 'A "corp" \\') in labels for _, labels in samples)


@needs_promtool
def test_promtool_has_nothing_to_say(configured: Callable[..., Any]) -> None:
    text = full_page(configured()).text(openmetrics=False)
    found = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


# -- against a recount -----------------------------------------------------------------------------
