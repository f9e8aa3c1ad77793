"""Timeline files: what they mean, and each error in one line with file, key and fix."""

from pathlib import Path

import pytest

from streams.simulator.generator import (
    Timeline,
    TimelineError,
    Traffic,
    load_timeline,
    shipped_timelines,
)
from streams.simulator.scenarios import KINDS
from tests.support.paths import ROOT
from tests.support.scenario_traffic import NOON, PROFILE, START

DOCS = ROOT / "docs" / "simulator.md"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_timeline_counts_from_its_beginning_or_from_an_instant(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        scenarios:
          - {kind: outage, start: 90s, duration: 2m}
          - {kind: late, start: 2026-03-11T13:00:00+01:00, duration: 1.5h, min_delay: 5}
          - {kind: latency, start: "2026-03-11T12:00:00Z", duration: 1d, ttft_factor: 2}
        """,
    )
    timeline = load_timeline(path).beginning_at(NOON + 7)
    assert [(s.start_ms - NOON, s.end_ms - s.start_ms) for s in timeline.scenarios] == [
        (90_007, 120_000),
        (0, 5_400_000),
        (0, 86_400_000),
    ]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("{kind: outtage}", ".kind: got 'outtage'; use one of outage, latency,"),
        ("{start: 1m}", ".kind: got None; use one of outage, latency,"),
        ("outage", ": got 'outage'; write keys, e.g. kind: outage"),
        ("{kind: outage, duration: 1m}", ".start: got nothing; this key is required"),
        (
            "{kind: outage, start: soon, duration: 1m}",
            ".start: got 'soon'; write a number with a u",
        ),
        (
            "{kind: outage, start: 2026-03-11T12:00:00, duration: 1m}",
            ".start: got '2026-03-11T12:00:00'; add the time zone, e.g. 2026-01-31T09:00:00Z",
        ),
        (
            '{kind: outage, start: "2026-99-11T12:00:00Z", duration: 1m}',
            ".start: got '2026-99-11T12:00:00Z'; write an instant as 2026-01-31T09:00:00Z",
        ),
        ("{kind: outage, start: -5m, duration: 1m}", ".start: got '-5m'; write a time from 0 to"),
        ("{kind: outage, start: 1m, duration: 0}", ".duration: got 0; "),
        ("{kind: outage, start: 1m, duration: .inf}", ".duration: got '.inf'; write a"),
        ("{kind: outage, start: 1m, duration: yes}", ".duration: got 'yes'; write a"),
        ("{kind: outage, start: 1m, duration: 9999d}", ".duration: got '9999d'; write a time from"),
        (
            "{kind: outage, start: 1m, duration: 1m, share: 1}",
            ".share: got 1; no such key; use one of kind, start, duration, where, error_share",
        ),
        (
            "{kind: outage, start: 1m, duration: 1m, where: {customer: x}}",
            ".where.customer: got 'x'; no such key; use one of model, region, channel, ",
        ),
        ("{kind: outage, start: 1m, duration: 1m, error_share: 1.5}", ".error_share: got 1.5; "),
        ("{kind: outage, start: 1m, duration: 1m, error_share: yes}", ".error_share: got 'yes'; "),
        ("{kind: late, start: 1m, duration: 1m, max_delay: 9d}", ".max_delay: got '9d'; "),
        (
            "{kind: late, start: 1m, duration: 1m, min_delay: 20m}",
            ": min_delay is above max_delay; swap them",
        ),
        (
            "{kind: flood, start: 1m, duration: 1m}",
            ": a flood comes from one customer; add where: {customer_id: ...}",
        ),
    ],
)
def test_a_wrong_scenario_is_one_line_with_file_key_finding_and_cure(
    tmp_path: Path, text: str, finding: str
) -> None:
    path = write(tmp_path, f"scenarios:\n  - {text}\n")
    with pytest.raises(TimelineError) as refused:
        load_timeline(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: scenarios[0]{finding}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("", "scenarios: got no list; start the file with `scenarios:`"),
        ("scenarios: outage", "scenarios: got no list; start the file with `scenarios:`"),
        ("scenarios: []\nbegin: now", "begin: no such key; use description and scenarios"),
        ("scenarios: [", "line 1, column 13: not YAML: expected"),
        ("scenarios: [2026-99-99]", "scenarios[0]: got '2026-99-99'; write keys"),
    ],
)
def test_a_file_that_is_no_timeline_is_one_line(tmp_path: Path, text: str, finding: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TimelineError) as refused:
        load_timeline(path)
    assert str(refused.value).startswith(f"{path}: {finding}")
    assert "\n" not in str(refused.value)


def test_every_finding_of_a_file_has_its_own_line(tmp_path: Path) -> None:
    path = write(tmp_path, "scenarios:\n  - {kind: a}\n  - {kind: outage, start: x, duration: y}\n")
    with pytest.raises(TimelineError) as refused:
        load_timeline(path)
    keys = [line.split(": ")[1] for line in str(refused.value).splitlines()]
    assert keys == ["scenarios[0].kind", "scenarios[1].start", "scenarios[1].duration"]


def test_a_missing_file_names_the_shipped_timelines(tmp_path: Path) -> None:
    with pytest.raises(TimelineError, match=r"No such file or directory; .*bad_day, outage, tour"):
        load_timeline(tmp_path / "none.yaml")


def test_a_file_that_is_not_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TimelineError, match="not UTF-8; save the file as UTF-8 text"):
        load_timeline(path)


def test_a_name_that_the_traffic_does_not_have_is_refused_before_it_matches_nothing() -> None:
    timeline = Timeline().with_scenario("outage", START, 60, {"region": "us-est"})
    with pytest.raises(TimelineError) as refused:
        Traffic(PROFILE, 1, timeline)
    assert str(refused.value) == (
        "timeline: scenarios[0].where.region: got 'us-est', which this traffic does not have; "
        "use us-east-1, us-west-2, eu-west-1, ap-northeast-1"
    )


def test_starts_that_count_from_an_unknown_beginning_are_refused() -> None:
    with pytest.raises(TimelineError, match=r"outage: start 0:10:00 counts from .*beginning_at"):
        Traffic(PROFILE, 1, load_timeline("outage"))


def test_every_shipped_timeline_fits_the_default_traffic_and_is_documented() -> None:
    assert shipped_timelines() == ["bad_day", "outage", "tour"]
    for name in shipped_timelines():
        traffic = Traffic(PROFILE, 1, load_timeline(name).beginning_at(NOON))
        assert traffic.timeline.scenarios
        assert f"`{name}`" in DOCS.read_text()


def test_the_tour_shows_every_kind_and_every_kind_is_documented() -> None:
    text = DOCS.read_text()
    assert {scenario.kind for scenario in load_timeline("tour").scenarios} == set(KINDS)
    for kind, scenario in KINDS.items():
        assert f"`{kind}`" in text
        for parameter in scenario.model_fields.keys() - {"kind", "start", "duration", "where"}:
            assert f"`{parameter}`" in text, (kind, parameter)


def test_the_timeline_in_the_document_is_one(tmp_path: Path) -> None:
    blocks = DOCS.read_text().split("```yaml\n")[1:]
    assert blocks
    for block in blocks:
        timeline = load_timeline(write(tmp_path, block.split("```")[0]))
        Traffic(PROFILE, 1, timeline.beginning_at(NOON))
