"""The pages over HTTP: addresses, hostile names, unknown names, headers."""

import asyncio
import re
from collections.abc import Callable
from html import unescape

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from exporters.board.facts import BreakdownRow, LiveState
from exporters.drill.history import HistoryCache
from exporters.drill.page import PlaceView, near_names, place_page
from exporters.drill.place import Place
from exporters.drill.routes import DrillSource, drill_routes
from exporters.place_links import DIMENSION_OF, OTHERS, place_address
from exporters.static_files import static_files
from streams.config.settings import Settings
from streams.events.fields import LABEL_PATTERN
from tests.support.board_samples import WELL
from tests.support.drill_pages import answers
from tests.support.exporter_state import NOW_S, event, token_of

MARKUP = re.compile(r"<[a-z/!][^>]*>")


def test_a_page_may_load_only_files_of_the_exporter(configured: Callable[..., Settings]) -> None:
    (page,) = answers(configured(), {0: [event(NOW_S)]}, ["/model/opus"])
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-store"
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert "../drill/static/" in " ".join(loaded)
    assert [one for one in loaded if not one.startswith(("../", "#"))] == []
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page.text)


def test_static_files_have_the_address_of_their_content(
    configured: Callable[..., Settings],
) -> None:
    found = static_files("exporters.drill")
    paths = [f"/{asset.address}" for asset in found.values()]
    served = answers(configured(), {0: [event(NOW_S)]}, paths)
    assert [answer.status for answer in served] == [200] * len(paths)
    assert {"uplot.js", "uplot.css", "uplot.LICENSE.txt", "drill.js"} <= set(found)
    assert b"The MIT License" in found["uplot.LICENSE.txt"].body


def test_an_unknown_name_gets_near_names_in_plain_text(
    configured: Callable[..., Settings],
) -> None:
    events = [event(NOW_S, model="aurora-4-large"), event(NOW_S, model="borealis")]
    paths = ["/model/aurora-4-lrge", "/model/zzz", "/model/%3Cscript%3E", "/planet/x", "/model"]
    near, far, hostile, kind, empty = answers(configured(), {0: events}, paths)
    assert (near.status, near.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert near.text == (
        "model 'aurora-4-lrge': no requests of it were counted; near names: "
        "../model/aurora-4-large\n"
    )
    assert (far.status, far.text) == (404, "model 'zzz': no requests of it were counted\n")
    assert (hostile.status, hostile.headers["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert (kind.status, empty.status) == (404, 404)


def test_a_range_that_does_not_exist_is_named_with_the_choice(
    configured: Callable[..., Settings],
) -> None:
    (page,) = answers(configured(), {0: [event(NOW_S)]}, ["/model/opus?range=1w"])
    assert (page.status, page.text) == (400, "range: choose one of 15m, 1h, 6h, 24h, 30d\n")


def test_every_label_of_the_contract_reaches_its_page(
    configured: Callable[..., Settings],
) -> None:
    """Slashes, spaces, dots and the like, by the address that the boards link to."""
    names = ["a/b", "a b", "..", ".", "a:b@c", "-", "x" * 96, "a/../b", "//", "/"]
    events = [event(NOW_S, model=name, request_id=str(at)) for at, name in enumerate(names)]
    pages = answers(
        configured(), {0: events}, ["/" + place_address("model", name) for name in names]
    )
    for name, page in zip(names, pages, strict=True):
        assert page.status == 200, name
        assert f'<h1 id="title">{name}</h1>' in page.text


def test_a_customer_has_the_name_of_the_directory_and_no_latencies(
    configured: Callable[..., Settings],
) -> None:
    (page,) = answers(
        configured(),
        {0: [event(NOW_S, customer_id="acme")]},
        [f"/customer/{token_of('acme')}"],
        names={token_of("acme"): "Acme & Sons"},
    )
    assert '<h1 id="title">Acme &amp; Sons</h1>' in page.text
    assert 'id="chart-requests"' in page.text
    assert 'id="chart-ttft"' not in page.text


def test_all_customers_of_the_window_are_listed_the_largest_first(
    configured: Callable[..., Settings],
) -> None:
    sent = {"acme": 3, "globex": 5, "<b>": 1}
    events = [
        event(NOW_S - at, customer_id=customer, request_id=f"{customer}{at}")
        for customer, requests in sent.items()
        for at in range(requests)
    ]
    events.append(event(NOW_S - 4_000, customer_id="gone"))
    (page,) = answers(
        configured(), {0: events}, ["/customers"], names={token_of("acme"): "Acme & Sons"}
    )
    assert "3 customers with requests in the last 5 minutes" in page.text.replace("\u00a0", " ")
    assert '<a href="customers" aria-current="page">' in page.text
    rows = re.findall(r'<tr data-name="(.+?)">.*?href="(.+?)">(.+?)</a>', page.text)
    order = sorted(sent, key=lambda customer: -sent[customer])
    assert [name for name, *_ in rows] == [token_of(customer) for customer in order]
    assert [address for _, address, _ in rows] == [f"customer/{name}" for name, *_ in rows]
    assert [shown for *_, shown in rows][1] == "Acme &amp; Sons"


def test_customers_beyond_the_limit_of_names_are_listed_together_and_not_counted_as_one(
    configured: Callable[..., Settings],
) -> None:
    settings = configured(worker={"limits": {"customers": 2}})
    events = [
        event(NOW_S, customer_id=f"customer-{number}", request_id=str(number))
        for number in range(7)
    ]
    (page,) = answers(settings, {0: events}, ["/customers"])
    assert "2 customers and others with requests in" in page.text.replace("\u00a0", " ")
    rows = re.findall(r'<tr data-name="(.+?)">', page.text)
    assert (len(rows), rows[0]) == (3, OTHERS)
    assert "are listed" not in page.text


@given(st.text(min_size=1, max_size=40), st.sampled_from(sorted(DIMENSION_OF)))
def test_no_name_becomes_markup_or_leaves_its_address(name: str, kind: str) -> None:
    row = BreakdownRow(name, 1, 1, 1.0, None, 0, None, 0, None, "ok")
    view = PlaceView(Place(kind, name), name, LiveState(WELL, None, 1.0), row, None, ())
    calm = PlaceView(Place(kind, "x"), "x", LiveState(WELL, None, 1.0), row, None, ())
    page, plain = place_page(view, "1h", "../"), place_page(calm, "1h", "../")

    def tags(text: str) -> list[str]:
        return [re.sub(r'href="[^"]*"', "", tag) for tag in MARKUP.findall(text)]

    assert tags(page) == tags(plain)
    assert name in unescape(page)
    for address in re.findall(r'href="([^"]+range=[^"]+)"', page):
        if name not in (".", ".."):
            assert len(URL(unescape(address)).raw_path.split("/")) == 3, address


@given(st.from_regex(LABEL_PATTERN.replace("^", "").replace("$", ""), fullmatch=True))
def test_an_address_leads_back_to_its_name(name: str) -> None:
    url = URL("http://exporter/").join(URL(place_address("region", name), encoded=True))
    if name in (".", ".."):
        assert url.query["name"] == name
    else:
        assert url.path == f"/region/{name}"
        assert url.raw_path.count("/") == 2


def test_near_names_ignore_case() -> None:
    assert near_names("OPUS", ["opus", "sonnet"]) == ["opus"]
    assert near_names("zzz", ["opus"]) == []


def test_before_the_first_reading_the_page_says_so(configured: Callable[..., Settings]) -> None:
    async def ask() -> tuple[int, str]:
        live = LiveState(None, "Redis does not answer", 1.0)
        history = HistoryCache(configured())
        source = DrillSource(lambda: live, lambda: None, history, str)
        app = web.Application()
        app.add_routes(drill_routes(source))
        async with TestClient(TestServer(app)) as client:
            answer = await client.get("/model/opus")
            return answer.status, await answer.text()

    status, text = asyncio.run(ask())
    assert status == 200
    assert "No numbers now: Redis does not answer" in text
    assert "The past is being read" in text


@pytest.mark.parametrize("kind", sorted(DIMENSION_OF))
def test_each_kind_of_place_has_a_page(configured: Callable[..., Settings], kind: str) -> None:
    names = {
        "model": "opus",
        "region": "us-east-1",
        "channel": "direct",
        "tier": "standard",
        "customer": token_of("acme"),
    }
    (page,) = answers(configured(), {0: [event(NOW_S)]}, [f"/{kind}/{names[kind]}"])
    assert page.status == 200
    assert "Availability" in page.text
