"""The slow requests of a place, with links to their traces."""

from dataclasses import replace

from exporters.board.facts import LiveState
from exporters.drill.page import PlaceView, place_page
from exporters.drill.place import Place
from exporters.drill.slowest import SLOWEST_MAX, slowest_requests
from streams.worker.exemplars import Exemplar
from tests.support.board_samples import WELL

URL = "https://traces.example/t/{trace_id}?from=board"


def exemplar(trace_id: str, latency: str, value_ms: int, model: str = "opus") -> Exemplar:
    return Exemplar(model, "eu-west-1", latency, value_ms * 10**6, 5_000, trace_id)


EXEMPLARS = [
    exemplar("a", "ttft", 900),
    exemplar("a", "duration", 2_000),
    exemplar("b", "duration", 9_000),
    exemplar("b", "tpot", 80),
    exemplar("c", "duration", 5_000, "haiku"),
]


def test_the_latencies_of_one_request_are_one_row_the_slowest_first() -> None:
    found = slowest_requests(EXEMPLARS, Place("model", "opus"), 0, URL)
    assert [(one.trace_id, one.ttft_s, one.duration_s) for one in found] == [
        ("b", None, 9.0),
        ("a", 0.9, 2.0),
    ]
    assert found[0].trace_address == "https://traces.example/t/b?from=board"
    by_region = slowest_requests(EXEMPLARS, Place("region", "eu-west-1"), 0, None)
    assert [(one.trace_id, one.trace_address) for one in by_region] == [
        ("b", None),
        ("c", None),
        ("a", None),
    ]


def test_requests_before_the_range_and_places_without_exemplars_have_none() -> None:
    assert slowest_requests(EXEMPLARS, Place("model", "opus"), 5.001, URL) == ()
    assert slowest_requests(EXEMPLARS, Place("customer", "opus"), 0, URL) == ()


def test_only_the_slowest_are_listed() -> None:
    many = [exemplar(f"t{at}", "duration", at + 1) for at in range(50)]
    found = slowest_requests(many, Place("model", "opus"), 0, URL)
    assert [one.trace_id for one in found] == [f"t{at}" for at in range(49, 49 - SLOWEST_MAX, -1)]


def test_a_trace_id_cannot_leave_the_address_of_its_link() -> None:
    (hostile,) = slowest_requests(
        [exemplar('x/../"><b>&y=1', "duration", 1)], Place("model", "opus"), 0, URL
    )
    assert hostile.trace_address == (
        "https://traces.example/t/x%2F..%2F%22%3E%3Cb%3E%26y%3D1?from=board"
    )
    view = PlaceView(Place("model", "opus"), "opus", LiveState(WELL, None, 1.0), None, None, ())
    page = place_page(replace(view, slowest=(hostile,)), "1h", "../")
    assert f'<a href="{hostile.trace_address}" rel="noreferrer">' in page
    assert "<b>" not in page.partition('id="slowest"')[2]
