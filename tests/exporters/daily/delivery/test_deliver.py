"""A day is delivered once to each recipient."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from exporters.daily.day.facts import DailyFacts
from exporters.daily.delivery.deliver import DeliveryOutcome, deliver
from exporters.daily.delivery.sent import LEASE_S, Sent
from exporters.daily.editions.periods import period_at
from streams.config.settings import Daily
from streams.errors import RequestError
from streams.store.contract import StoreError
from streams.store.servers.client import connect
from tests.support.command import run
from tests.support.daily_samples import DATE, some_facts
from tests.support.edition_samples import some_edition
from tests.support.exporter_state import settings_for, some_events, write_state
from tests.support.mailboxes import (
    MAILED,
    TO,
    Channel,
    Mailbox,
    mailed,
)
from tests.support.servers import RedisServer

# -- each day once ---------------------------------------------------------------------------------


def test_a_day_is_delivered_once_unless_asked_again(
    mailbox: Mailbox, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = mailed(mailbox, slack_webhook_file=webhook_file)
    assert send(daily) == [*MAILED, ("Slack", "delivered", False)]
    for _ in range(2):
        found = send(daily)
        assert [failed for _, _, failed in found] == [False] * 3
        assert all(words.startswith("delivered before, on 20") for _, words, _ in found)
    assert (len(mailbox.messages), len(channel.messages)) == (1, 1)
    assert send(daily, again=True) == [*MAILED, ("Slack", "delivered", False)]
    assert (len(mailbox.messages), len(channel.messages)) == (2, 2)
    first, second = (message["Message-ID"] for _, message in mailbox.messages)
    assert first != second
    other = some_facts(on="2026-11-04")
    assert send(daily, other) == [*MAILED, ("Slack", "delivered", False)]


def final(facts: DailyFacts, **changed: Any) -> DailyFacts:
    """The same day, sealed, with these metrics."""
    found = replace(facts.day, state="sealed", note="", values=replace(facts.day.values, **changed))
    return replace(
        facts, days=tuple(found if one.date == facts.date else one for one in facts.days)
    )


def test_who_was_told_other_numbers_before_the_day_was_final_is_told_the_final_ones(
    mailbox: Mailbox, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = mailed(mailbox, slack_webhook_file=webhook_file)
    facts = some_facts()
    worse = replace(facts.day.values.availability_ratio, value=0.9981, mark="missed")
    send({**daily, "mail_to": TO[:1]}, facts)
    # While it may change again, and when it is final as it was told, nobody needs to know.
    for same in (final(facts), facts):
        found = send({**daily, "mail_to": TO[:1]}, same)
        assert all(words.startswith("delivered before, on 20") for _, words, _ in found)
    found = send(daily, final(facts, availability_ratio=worse))
    assert sorted(found) == sorted([*MAILED, ("Slack", "delivered", False)])
    told = {to[0]: message for to, message in mailbox.messages[1:]}
    assert told[TO[0]]["Subject"].startswith("Update: Reliability 2026-11-03: missed P95 TTFT, Av")
    assert told[TO[1]]["Subject"].startswith("Reliability 2026-11-03: missed")
    assert told[TO[0]]["Message-ID"] != mailbox.messages[0][1]["Message-ID"]
    assert channel.messages[1]["text"].startswith("Update: Reliability 2026-11-03")
    found = send(daily, final(facts))  # final is final: later numbers are corrections on the page
    assert all(words.startswith("delivered before, on 20") for _, words, _ in found)


def test_who_was_not_reached_is_tried_again_and_nobody_else(
    mailbox: Mailbox, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = mailed(mailbox, slack_webhook_file=webhook_file)
    mailbox.refused = {TO[1]: "450 greylisted"}
    channel.answers = [(404, {})]
    found = send(daily)
    assert found == [
        MAILED[0],
        ("e-mail to sre@example.com", "rejected: 450 greylisted", True),
        ("Slack", "the webhook answers with status 404; the webhook is gone, make another", True),
    ]
    mailbox.refused = {}
    found = send(daily)
    assert found[0][1].startswith("delivered before")
    assert found[1:] == [MAILED[1], ("Slack", "delivered", False)]
    assert [to for to, _ in mailbox.messages] == [[TO[0]], [TO[1]]]
    first, second = (message["Message-ID"] for _, message in mailbox.messages)
    assert first == second


def test_a_mail_server_that_is_gone_does_not_keep_the_board_from_slack(
    unused_port: int, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    found = send(mailed(Mailbox(port=unused_port), slack_webhook_file=webhook_file))
    assert [failed for _, _, failed in found] == [True, True, False]
    assert len(channel.messages) == 1


def test_two_runs_at_once_deliver_once(
    mailbox: Mailbox, redis_server: RedisServer, redis_client: Redis
) -> None:
    settings = settings_for(redis_server.url).model_copy(update={"daily": Daily(**mailed(mailbox))})

    async def go() -> list[list[DeliveryOutcome] | BaseException]:
        client = connect(settings.redis.url, 5)
        try:
            return await asyncio.gather(
                *(deliver(settings, client, some_facts(), False) for _ in range(4)),
                return_exceptions=True,
            )
        finally:
            await client.aclose()

    found = asyncio.run(go())
    delivered = [one for one in found if isinstance(one, list)]
    assert len(delivered) == 1
    for other in found:
        if not isinstance(other, list):
            assert isinstance(other, RequestError)
            assert "another run is sending 2026-11-03" in str(other)
    assert len(mailbox.messages) == 1


def test_a_run_that_died_does_not_keep_the_day_for_ever(
    redis_server: RedisServer, redis_client: Redis
) -> None:
    async def go() -> None:
        client = connect(redis_server.url, 5)
        try:
            dead, late = (Sent(client, "g", "t", DATE) for _ in range(2))
            assert await dead.claim(1_000) == {}
            assert await late.claim(1_000 + LEASE_S - 1) is None
            assert await late.claim(1_000 + LEASE_S) == {}
            # A run of a clock that was a month ahead died: nothing waits for a month.
            ahead = Sent(client, "g", "t", "2026-11-08")
            assert await ahead.claim(30 * 86_400) == {}
            assert await Sent(client, "g", "t", "2026-11-08").claim(1_000) == {}
            await dead.release()  # it is not his any more
            assert await Sent(client, "g", "t", DATE).claim(1_001 + LEASE_S) is None
            await late.release()
            assert await Sent(client, "g", "t", DATE).claim(1_001 + LEASE_S) == {}
        finally:
            await client.aclose()

    asyncio.run(go())


# Clocks that each differ by the largest redis.max_clock_offset_s from that of Redis.
@pytest.mark.parametrize("later_s", [0, 0.2, -5, -120, 120])
def test_of_two_hosts_with_accepted_clocks_one_sends(
    redis_server: RedisServer, redis_client: Redis, later_s: float
) -> None:
    async def claims() -> list[bool]:
        client = connect(redis_server.url, 5)
        try:
            return [
                await Sent(client, "g", "t", DATE).claim(now_s) is not None
                for now_s in (1_000_100.6, 1_000_100.6 + later_s)
            ]
        finally:
            await client.aclose()

    assert asyncio.run(claims()) == [True, False]


def test_redis_keeps_no_address_and_forgets(
    mailbox: Mailbox, redis_server: RedisServer, redis_client: Redis, send: Callable[..., Any]
) -> None:
    send(mailed(mailbox))
    [key] = redis_client.keys("*:sent:*")
    assert b"{tokenpulse:inference.requests}:sent:2026-11-03" in key
    stored: Any = redis_client.hgetall(key)
    assert len(stored) == len(TO) + 1
    assert b"example.com" not in b"".join((*stored, *stored.values()))
    assert 0 < redis_client.ttl(key) <= 400 * 86_400


def test_without_redis_nothing_is_sent(mailbox: Mailbox, unused_port: int) -> None:
    settings = settings_for(f"redis://127.0.0.1:{unused_port}/0").model_copy(
        update={"daily": Daily(**mailed(mailbox))}
    )

    async def go() -> None:
        client = connect(settings.redis.url, 1)
        try:
            await deliver(settings, client, some_facts(), False)
        finally:
            await client.aclose()

    with pytest.raises(StoreError, match="sent:2026-11-03"):
        asyncio.run(go())
    assert mailbox.messages == []


def test_a_week_is_delivered_once_beside_its_days(
    mailbox: Mailbox, channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = mailed(mailbox, slack_webhook_file=webhook_file)
    sent = [*MAILED, ("Slack", "delivered", False)]
    week, month = some_edition("week"), some_edition("month")
    assert send(daily) == send(daily, week) == send(daily, month) == sent
    for facts in (week, month):
        assert all(words.startswith("delivered before") for _, words, _ in send(daily, facts))
    identities = [message["Message-ID"] for _, message in mailbox.messages]
    assert len(set(identities)) == 3
    assert identities[1].startswith("<daily.2026-W44.")
    assert identities[2].startswith("<daily.2026-10.")
    assert channel.messages[1]["text"].startswith("Reliability Week 44, 26 October to 1 November")
    with pytest.raises(RequestError, match="2026-10 is not over; send a closed month"):
        send(daily, some_edition("month", 12))


def test_a_provisional_week_is_updated_once_it_is_final_with_other_numbers(
    mailbox: Mailbox, send: Callable[..., Any]
) -> None:
    week = some_edition("week")
    open_week = replace(week, days=(*week.days[:-1], replace(week.day, state="provisional")))
    worse = replace(week.day.values.availability_ratio, value=0.9981, mark="missed")
    final_week = replace(week.day, values=replace(week.day.values, availability_ratio=worse))
    send(mailed(mailbox), open_week)
    assert send(mailed(mailbox), replace(week, days=(*week.days[:-1], final_week))) == MAILED
    assert mailbox.messages[-1][1]["Subject"].startswith("Update: Reliability Week 44")


def test_a_day_that_is_not_over_is_not_sent(mailbox: Mailbox, send: Callable[..., Any]) -> None:
    facts = some_facts()
    with pytest.raises(RequestError, match="2026-11-04 is not over"):
        send(mailed(mailbox), replace(facts, date=facts.days[-1].date))


# -- the command -----------------------------------------------------------------------------------


def test_the_command_delivers_the_last_closed_day_and_says_who_did_not_get_it(
    mailbox: Mailbox,
    channel: Channel,
    webhook_file: Path,
    redis_server: RedisServer,
    redis_client: Redis,
    tmp_path: Path,
) -> None:
    now_s = time.time()
    base = settings_for(redis_server.url)
    write_state(base, {0: some_events(1, 400, now_s - 2 * 86_400, now_s)}, now_s)
    daily = Daily(**mailed(mailbox, slack_webhook_file=webhook_file))
    settings = base.model_copy(update={"daily": daily})
    channel.answers = [(403, {})]
    done = run("daily", "--send", settings=settings)
    assert done.exit_code == 1, done.output
    day = time.strftime("%Y-%m-%d", time.gmtime(now_s - 86_400))
    assert done.stdout.splitlines() == [f"{day}: e-mail to {address}: delivered" for address in TO]
    assert done.stderr.startswith(f"{day}: Slack: the webhook answers with status 403")
    assert "hunter2" not in done.output
    [(_, message)] = mailbox.messages
    assert f"Reliability {day}" in message["Subject"]
    file = tmp_path / "board.html"
    done = run("daily", "--send", "--output", file, settings=settings)
    assert done.exit_code == 0, done.output
    assert file.read_text().startswith("<!doctype html>")
    assert "Slack: delivered" in done.stdout
    assert done.stdout.count("delivered before") == 2
    assert len(mailbox.messages) == 1
    done = run("daily", "--send", "--date", "today", settings=settings)
    assert done.exit_code == 2
    assert "is not over" in done.stderr


@pytest.mark.slow
def test_the_command_sends_the_boards_that_are_configured(
    mailbox: Mailbox, redis_server: RedisServer, redis_client: Redis
) -> None:
    now_s = time.time()
    base = settings_for(redis_server.url)
    write_state(base, {0: some_events(1, 400, now_s - 40 * 86_400, now_s)}, now_s)
    daily = Daily(**mailed(mailbox), periods=("day", "week", "month"))
    settings = base.model_copy(update={"daily": daily})
    today = datetime.fromtimestamp(now_s, UTC).date()
    names = [period_at(today, kind).step(-1).label for kind in daily.periods]
    expected = [f"{name}: e-mail to {address}: delivered" for name in names for address in TO]
    done = run("daily", "--send", settings=settings)
    assert (done.exit_code, done.stdout.splitlines()) == (0, expected)
    again = run("daily", "--send", settings=settings)
    assert again.stdout.count("delivered before, on 20") == len(expected)
    only = run("daily", "--send", "--period", "week", "--again", settings=settings)
    assert only.stdout.splitlines() == expected[2:4]
    assert len(mailbox.messages) == 4
    running = run("daily", "--send", "--period", "week", "--date", "today", settings=settings)
    assert running.exit_code == 2
    assert "is not over; send a closed week" in running.stderr
