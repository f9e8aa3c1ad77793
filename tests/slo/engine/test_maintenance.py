"""Maintenance: who took which minutes out, why, and what a closed period said before."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis

from slo.engine.maintenance import ClosedPeriod, Maintenance, adjustment, causes
from slo.engine.minute_status import Attainment
from slo.policy.loading import as_policy
from streams.config.settings import ENV_PREFIX
from tests.support.exporter_state import SECRET, event, export, settings_for, write_state
from tests.support.servers import RedisServer
from tokenpulse.cli.main import main

WINDOW = Maintenance("m-1", 7_200, 10_800, "jo", "new racks", 7_000)
CLOSED = ClosedPeriod(0, 1_440, Fraction(90), 100, 90_000, ("m-1",))


@pytest.mark.parametrize(
    ("changes", "cure"),
    [
        ({"from_s": 7_230}, "whole minute"),
        ({"to_s": 7_200}, "ends after"),
        ({"to_s": 7_200 + 40 * 86_400}, "31 days"),
        ({"author": " "}, "author"),
        ({"reason": ""}, "reason"),
        ({"objective": "uptime"}, "policy"),
    ],
)
def test_a_window_that_says_too_little_or_too_much_is_refused(
    changes: dict[str, Any], cure: str
) -> None:
    fields = {"id": "m", "from_s": 7_200, "to_s": 10_800, "author": "jo", "reason": "r"}
    with pytest.raises(ValueError, match=cure):
        Maintenance(**{**fields, "created_at_s": 1, **changes})


def test_a_window_is_stored_as_it_is_and_a_cancelled_one_stays_in_the_list() -> None:
    assert Maintenance.unpack(WINDOW.pack()) == WINDOW
    gone = WINDOW.cancel("al", "not agreed", 8_000)
    assert Maintenance.unpack(gone.pack()) == gone
    assert (gone.author, gone.reason, gone.cancelled_by) == ("jo", "new racks", "al")
    assert not gone.covers("p", "o")
    with pytest.raises(ValueError, match="before, by al"):
        gone.cancel("al", "again", 9_000)


def test_windows_and_the_policys_own_exclusions_count_for_the_promises_they_name() -> None:
    always = {"author": "x", "reason": "preview", "where": {"model": "beta"}}
    night = {"author": "x", "reason": "night", "from": "1970-01-01T01:00Z"}
    long = night | {"to": "1970-01-01T01:20Z", "where": {"input_tokens": {"above": 9}}}
    objective = {"indicator": {"kind": "request_ratio"}, "target": "99%"}
    policy = as_policy(
        {
            "version": 1,
            "name": "p",
            "objectives": [
                {"name": name, "period": {"rolling_days": 1}} | objective for name in ("a", "b")
            ],
            "exclusions": [always, long, night | {"to": "1970-01-01T01:30Z"}],
        },
        "test",
    )
    a, b = policy.error_budget_objectives()
    windows = [
        WINDOW,
        Maintenance("m-2", 0, 60, "jo", "r", 1, policy="p", objective="b"),
        Maintenance("m-3", 0, 60, "jo", "r", 1, policy="other"),
        Maintenance("m-4", 0, 60, "jo", "r", 1).cancel("al", "why", 2),
    ]
    assert [one.id for one in causes(policy, a, windows)] == ["policy:3600-5400", "m-1"]
    assert [one.id for one in causes(policy, b, windows)] == ["m-2", "policy:3600-5400", "m-1"]


def test_an_adjustment_says_what_changed_since_the_close() -> None:
    same = CLOSED.attainment
    assert adjustment(CLOSED, same, [], []) is None
    other = Attainment(Fraction(91), 101)
    found = adjustment(CLOSED, other, [], [WINDOW.cancel("al", "not agreed", 95_000)])
    assert found is not None
    assert found.closed_period == CLOSED
    assert found.because == ("m-1 cancelled by al: not agreed",)
    found = adjustment(CLOSED, other, [], [])
    assert found is not None
    assert found.because == ("m-1 taken out of the policy",)
    late = adjustment(ClosedPeriod(0, 1_440, Fraction(90), 100, 90_000, ()), other, [], [])
    assert late is not None
    assert late.because == ("events that came late",)


# -- the commands --------------------------------------------------------------------------------


@pytest.fixture
def run(
    redis_server: RedisServer, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    monkeypatch.setenv(f"{ENV_PREFIX}REDIS__URL", redis_server.url)
    monkeypatch.setenv(f"{ENV_PREFIX}WORKER__CUSTOMER_KEY", SECRET)

    def tokenpulse(*words: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, words)
        assert done.exit_code == status, done.output
        return done.output

    return tokenpulse


def at(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")


def test_minutes_are_taken_out_by_command_and_put_back_by_command(
    run: Callable[..., Any], redis_server: RedisServer
) -> None:
    now = int(time.time()) // 60
    begin = (now - 60) * 60
    bad, good = event(begin + 30, outcome="timeout"), event(begin + 600)
    write_state(settings_for(redis_server.url), {0: [bad, good]}, time.time())

    def attained() -> str:
        [entry] = json.loads(run("sla", "--json"))
        return str(entry["attainment"]["ratio"])

    assert attained() == "0.5"
    assert "default/uptime: 50 % of 99.9 %, MISSED" in run("sla")
    words = ("--from", at(begin // 60), "--to", at(begin // 60 + 5), "--author", "jo")
    added = run("maintenance", "add", *words, "--reason", "new racks")
    window = added.split(":")[0]
    assert attained() == "1"
    assert f"{window}: " in run("maintenance", "list")
    run("maintenance", "cancel", window, "--reason", "not agreed", "--author", "al")
    assert attained() == "0.5"
    [entry] = json.loads(run("maintenance", "list", "--json"))
    assert entry["author"] == "jo"
    assert entry["cancelled_by"] == "al"
    assert "cancelled by al: not agreed" in run("maintenance", "list")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--from", "noon", "--to", "2026-01-01T00:00Z"), "--from: got 'noon'; write a whole"),
        (("--from", "2026-01-01T00:00Z", "--to", "2026-01-01T00:00Z"), "ends after it begins"),
        (
            ("--from", "2026-01-01T00:00Z", "--to", "2026-01-01T01:00Z", "--policy", "x"),
            "--policy: got 'x'; in force are default",
        ),
        (
            (
                *("--from", "2026-01-01T00:00Z", "--to", "2026-01-01T01:00Z"),
                *("--policy", "default", "--objective", "x"),
            ),
            "default has uptime",
        ),
    ],
)
def test_a_window_that_would_exclude_nothing_or_nonsense_is_refused_in_one_line(
    run: Callable[..., Any], words: tuple[str, ...], told: str
) -> None:
    output = run("maintenance", "add", *words, "--reason", "r", status=2)
    assert told in output
    assert len(output.splitlines()) == 1
    assert run("maintenance", "list") == ""


def test_a_window_that_is_not_there_cannot_be_cancelled(run: Callable[..., Any]) -> None:
    assert "no such window" in run("maintenance", "cancel", "m-x", "--reason", "r", status=2)


def test_a_period_is_opened_again_by_command_and_shown_with_author_and_reason(
    run: Callable[..., Any], redis_server: RedisServer
) -> None:
    now_s, settings = time.time(), settings_for(redis_server.url)
    # The day that was closed last: it ended more than a day ago.
    date = (datetime.fromtimestamp(now_s, UTC) - timedelta(days=2)).strftime("%Y-%m-%d")
    noon_s = datetime.fromisoformat(f"{date}T12:00:00+00:00").timestamp()
    bad = event(noon_s + 30, outcome="timeout")
    write_state(settings, {0: [bad, event(noon_s + 600), event(now_s)]}, now_s)
    export(settings, now_s)
    words = ("default/uptime", date, "--author", "jo", "--reason", "closed early")
    output = run("sla", "reopen", *words)
    assert (
        output == f"default/uptime: {date} is open again (1 closed before), by jo: closed early\n"
    )
    [entry] = json.loads(run("sla", "--json"))
    assert entry["closed"] == []
    [reopened] = entry["reopened"]
    assert (reopened["author"], reopened["reason"]) == ("jo", "closed early")
    assert reopened["before"]["ratio"] == "0.5"
    assert "by jo: closed early; it was closed with 50 %" in run("sla")
    assert f"{date} of default/uptime is not closed" in run("sla", "reopen", *words, status=2)
    export(settings, now_s)
    [entry] = json.loads(run("sla", "--json"))
    assert [one["from"] for one in entry["closed"]] == [f"{date}T00:00:00Z"]
    assert len(entry["reopened"]) == 1


@pytest.mark.parametrize(
    ("contract", "period", "status", "told"),
    [
        ("default/x", "2026-11-08", 2, "CONTRACT: got 'default/x'; no policy in force has"),
        ("default/uptime", "2026-11", 2, "PERIOD: got '2026-11'; give a day in UTC"),
        ("default/uptime", "2020-11-08", 2, "the counts of 2020-11-08 are no longer kept"),
    ],
)
def test_what_cannot_be_opened_again_is_refused_in_one_line(
    run: Callable[..., Any], contract: str, period: str, status: int, told: str
) -> None:
    output = run("sla", "reopen", contract, period, "--reason", "r", status=status)
    assert told in output
    assert len(output.splitlines()) == 1
