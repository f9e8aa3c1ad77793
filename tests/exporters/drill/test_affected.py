"""Who is affected: the parts of a place against a count of the events."""

import asyncio
from collections.abc import Callable

import pytest

from exporters.drill.affected import PARTS_MAX, Parts, PlacePart, parts_of
from exporters.drill.history import HistoryCache
from exporters.drill.place import Place
from exporters.drill.ranges import RANGES
from exporters.place_links import DIMENSION_OF
from streams.config.settings import Settings
from streams.events.fields import ELIGIBLE
from tests.support.drill_pages import answers
from tests.support.exporter_state import NOW_S, StateWriter, event, some_events, token_of

EVENTS = some_events(7, 2_000, NOW_S - 3_000, NOW_S)


def read_parts(settings: Settings, place: Place) -> dict[str, Parts]:
    async def read() -> tuple[Parts, ...]:
        writer = StateWriter(settings)
        await writer.write(0, EVENTS[::2])
        await writer.write(1, EVENTS[1::2])
        await writer.close()
        cache = HistoryCache(settings)
        await cache.read(NOW_S)
        history = cache.history(RANGES["1h"])
        assert history is not None
        return parts_of(history, place.where)

    return {parts.kind: parts for parts in asyncio.run(read())}


def counted(place: Place, kind: str) -> dict[str, PlacePart]:
    """Count the events of a place by another dimension."""

    def name_in(one: dict[str, str], kind: str) -> str:
        return token_of(one["customer_id"]) if kind == "customer" else one[DIMENSION_OF[kind]]

    found: dict[str, PlacePart] = {}
    for one in EVENTS:
        is_probe = bool(one.get("probe"))
        if name_in(one, place.kind) != place.name or (
            is_probe and "customer" in (kind, place.kind)
        ):
            continue
        name = name_in(one, kind)
        before = found.get(name, PlacePart(name, 0, 0, 0))
        is_eligible = one["outcome"] in ELIGIBLE
        found[name] = PlacePart(
            name,
            before.requests + (not is_probe),
            before.eligible + is_eligible,
            before.failed + (is_eligible and one["outcome"] != "success"),
        )
    return found


@pytest.mark.parametrize(
    ("place", "kinds"),
    [
        (Place("model", "opus"), {"region", "customer"}),
        (Place("region", "eu-west-1"), {"model"}),
        (Place("tier", "standard"), {"model", "region"}),
        (Place("customer", token_of("acme")), {"model"}),
    ],
)
def test_the_parts_of_a_place_equal_a_count_of_the_events(
    configured: Callable[..., Settings], place: Place, kinds: set[str]
) -> None:
    found = read_parts(configured(), place)
    assert set(found) == kinds  # others have one name only
    for kind, parts in found.items():
        expected = counted(place, kind)
        assert {part.name: part for part in parts.rows} == expected
        assert (parts.count, parts.failed) == (
            len(expected),
            sum(part.failed for part in expected.values()),
        )
        assert [part.failed for part in parts.rows] == sorted(
            (part.failed for part in parts.rows), reverse=True
        )


def test_only_the_parts_with_the_most_failures_are_listed(
    configured: Callable[..., Settings],
) -> None:
    events = [
        event(
            NOW_S - at,
            request_id=str(at),
            customer_id=f"c{at}",
            outcome="server_error" if at == 19 else "success",
        )
        for at in range(20)
    ]
    (page,) = answers(configured(), {0: events}, ["/model/opus"])
    assert (
        "1 of 20 had requests that failed; the 10 with the most failures are listed." in page.text
    )
    rows = page.text.partition('id="parts-customer"')[2]
    assert rows.count("<tr data-name=") == PARTS_MAX
    assert rows.partition("<tr data-name=")[2].startswith(f'"{token_of("c19")}"')
    assert f'href="../customer/{token_of("c19")}?range=1h"' in rows
