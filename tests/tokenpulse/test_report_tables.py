"""The tables of `tokenpulse report --by` and `--step`."""

from typing import Any

from exporters.daily.day.facts import BoardTargets
from tokenpulse.report_tables import report_table

TARGETS = BoardTargets(None, None, None, None, None)


def measures(requests: int, ttft_s: float | None = None) -> dict[str, Any]:
    latency = {"count": 0} if ttft_s is None else {"count": requests, "p95": ttft_s}
    return {
        "requests": requests,
        "tokens": {"total": 10 * requests},
        "known_ratio": {"tokens": 1.0},
        "availability_ratio": 0.5,
        "ttft_seconds": latency,
    }


def step(start: str, requests: int) -> dict[str, Any]:
    return {"start": start, "measures": measures(requests)}


REPORT: dict[str, Any] = {
    "steps": [step("12:00", 5), step("12:05", 4)],
    "groups": [
        {"key": {"model": "a"}, "total": measures(2), "steps": [step("12:05", 2)]},
        {
            "key": {"model": "bee"},
            "total": measures(7, 0.25),
            "steps": [step("12:00", 5), step("12:05", 2)],
        },
    ],
}


def first_columns(lines: list[str], columns: int) -> list[list[str]]:
    return [line.split()[:columns] for line in lines]


def test_groups_are_listed_the_largest_first() -> None:
    lines = list(report_table(REPORT, TARGETS, by_step=False))
    assert lines == [
        "model  requests  tokens  cache hit  available  ttft p95  tpot p95  duration p95",
        "bee    7         70      unknown    50 %       250 ms    unknown   unknown",
        "a      2         20      unknown    50 %       unknown   unknown   unknown",
    ]


def test_steps_have_a_line_each_and_groups_in_them_only_with_requests() -> None:
    without = {name: value for name, value in REPORT.items() if name != "groups"}
    assert first_columns(list(report_table(without, TARGETS, by_step=True)), 2) == [
        ["start", "requests"],
        ["12:00", "5"],
        ["12:05", "4"],
    ]
    assert first_columns(list(report_table(REPORT, TARGETS, by_step=True)), 3) == [
        ["start", "model", "requests"],
        *(["12:00", "bee", "5"], ["12:05", "bee", "2"], ["12:05", "a", "2"]),
    ]


def test_there_is_no_table_unless_it_is_asked_for() -> None:
    assert list(report_table({"steps": []}, TARGETS, by_step=False)) == []
    empty: dict[str, Any] = {"steps": [], "groups": []}
    assert list(report_table(empty, TARGETS, by_step=False)) == ["no request in any group"]


def test_tokens_that_no_request_has_are_unknown_and_not_0() -> None:
    without = measures(2) | {"tokens": {"total": 0}, "known_ratio": {"tokens": 0.0}}
    group = {"key": {"model": "a"}, "total": without, "steps": []}
    lines = list(report_table(REPORT | {"groups": [group]}, TARGETS, by_step=False))
    assert first_columns(lines, 3)[1] == ["a", "2", "unknown"]


def test_customers_have_the_names_of_the_directory_and_others_their_token() -> None:
    groups = [
        {"key": {"customer": token}, "total": measures(number), "steps": []}
        for token, number in (("t1", 2), ("t2", 5))
    ]
    names = {"t1": "Acme", "t2": "t2"}
    lines = list(report_table(REPORT | {"groups": groups}, TARGETS, False, names.__getitem__))
    assert first_columns(lines, 2) == [["customer", "requests"], ["t2", "5"], ["Acme", "2"]]
