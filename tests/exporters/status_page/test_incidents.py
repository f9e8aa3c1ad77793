"""Incidents as they are stored and summed up."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.status_page.incidents import (
    IMPACTS,
    STAGES,
    IncidentBook,
    IncidentUpdate,
    PublicIncident,
    head_field,
    update_field,
)
from exporters.status_page.store import IncidentStore
from streams.store.servers.client import connect
from tests.support.servers import RedisServer
from tests.support.status_pages import NOW_S, incident

TEXTS = st.text(min_size=1, max_size=40).filter(lambda text: bool(text.strip()))


@st.composite
def incidents(draw: st.DrawFn) -> list[PublicIncident]:
    """Incidents of any texts; their updates have rising times."""
    made = []
    for number in range(draw(st.integers(0, 4))):
        stages = draw(st.lists(st.sampled_from(STAGES), min_size=1, max_size=4))
        updates = tuple(
            IncidentUpdate(f"u{at}", NOW_S + number * 100 + at, stage, draw(TEXTS), draw(TEXTS))
            for at, stage in enumerate(stages)
        )
        parts = tuple(draw(st.lists(st.sampled_from(["a", "b"]), unique=True)))
        impact = draw(st.sampled_from(IMPACTS))
        made.append(PublicIncident(f"i-{number}", draw(TEXTS), impact, parts, updates))
    return made


@given(incidents(), st.randoms())
def test_fields_in_any_order_are_read_back_newest_first(
    made: list[PublicIncident], chance: Random
) -> None:
    fields = [head_field(one) for one in made]
    fields += [update_field(one.id, update) for one in made for update in one.updates]
    chance.shuffle(fields)
    book = IncidentBook.read({name.encode(): data for name, data in fields})
    assert list(book.incidents) == made[::-1]


def test_updates_of_two_operators_are_both_kept(redis_server: RedisServer) -> None:
    """Both read the incident before the other's update was stored."""
    first = incident("investigating")
    by_jo, by_kim = (
        IncidentUpdate(name, NOW_S, "identified", f"Found by {name}.", name)
        for name in ("jo", "kim")
    )

    async def write_and_read() -> IncidentBook:
        client = connect(redis_server.url, 5)
        store = IncidentStore(client, "two-operators", "topic")
        await store.put(first, first.updates[0])
        await store.put(first, by_jo)
        await store.put(first, by_kim)
        book = await store.read()
        await client.aclose()
        return book

    (stored,) = asyncio.run(write_and_read()).incidents
    assert stored.updates == (first.updates[0], by_jo, by_kim)


def test_a_component_is_as_bad_as_its_worst_open_incident() -> None:
    book = IncidentBook(
        [
            incident("investigating", number=1, impact="minor"),
            incident("identified", number=2, impact="critical"),
            incident("investigating", "resolved", number=3, impact="critical", components=("eu",)),
        ]
    )
    assert book.impact_on("chat-api") == "critical"
    assert book.impact_on("eu") == "none"
    assert [one.id for one in book.unresolved] == ["i-1", "i-2"]


def test_resolved_incidents_leave_the_page_by_the_time_of_their_end() -> None:
    old = incident("investigating", "resolved", begin_s=NOW_S - 100_000)
    still_open = incident("investigating", number=2, begin_s=NOW_S - 900_000)
    book = IncidentBook([old, still_open])
    assert book.since(NOW_S - 3_600) == [still_open]
    assert book.since(NOW_S - 100_000) == [old, still_open]


@pytest.mark.parametrize("body", ["", "  ", "x" * 4_001])
def test_a_message_has_a_text_of_bounded_length(body: str) -> None:
    with pytest.raises(ValueError, match="a message has 1 to 4000 characters"):
        incident(body=body)
