"""Deliver the daily board by e-mail and to Slack, once per day and recipient.

Each delivery is recorded in Redis at once. A run that dies between the server's answer and the
record delivers again; the e-mail then has the same Message-ID, so mail programs detect the copy.
"""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import redis.asyncio as aioredis

from exporters.daily.day.facts import DailyFacts
from exporters.daily.delivery import mail, slack
from exporters.daily.delivery.sent import Sent, digest
from exporters.daily.render.view import numbers, view_of
from streams.config.settings import Daily, Settings
from streams.errors import ConfigError, RequestError

T = TypeVar("T")

ATTEMPTS = 3
FIRST_WAIT_S, WAIT_MAX_S = 1.0, 30.0
SLACK = "Slack"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one delivery."""

    recipient: str  # `e-mail to board@example.com`, `Slack`
    words: str  # `delivered`; `delivered before, on 2026-11-04 at 08:00 UTC`; why it was not
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.recipient}: {self.words}"


def recipients(daily: Daily) -> list[str]:
    """Return all recipients of the board. Raises ConfigError if none is configured."""
    found = [_mail_recipient(address) for address in daily.mail_to]
    if daily.slack_webhook_file is not None:
        found.append(SLACK)
    if not found:
        raise ConfigError(
            "daily: nobody to send the board to; set smtp_host, mail_from and mail_to, or "
            "slack_webhook_file"
        )
    return found


async def deliver(
    settings: Settings, client: "aioredis.Redis", facts: DailyFacts, again: bool
) -> list[Outcome]:
    """Deliver to all recipients that have not received this day.

    Recipients that received different numbers before the day was final get an update; `again`
    delivers to all. Raises ConfigError, StoreError and RequestError before anything is sent.
    """
    daily = settings.daily
    wanted = recipients(daily)
    daily.smtp_password(), daily.slack_webhook()  # a file that cannot be read is told now
    if facts.day.state == "running":
        raise RequestError(f"{facts.date} is not over; send a closed day")
    sent = Sent(client, settings.kafka.group, settings.kafka.topic, facts.date)
    before = await sent.claim(time.time())
    if before is None:
        raise RequestError(f"another run is sending {facts.date}; try again in some minutes")
    try:
        told = {one: before[digest(one)] for one in wanted if digest(one) in before}
        updated = {one for one, was in told.items() if _is_news(was, facts)}
        pending = {one for one in wanted if again or one not in told} | updated
        outcomes = [
            Outcome(one, f"delivered before, on {_instant(was)}; --again repeats it")
            for one, was in told.items()
            if one not in pending
        ]
        for update in (False, True):
            mailed = [
                address
                for address in daily.mail_to
                if _mail_recipient(address) in pending
                and (_mail_recipient(address) in updated) == update
            ]
            if mailed:
                outcomes += await _by_mail(settings, facts, mailed, sent, again, update)
        if SLACK in pending:
            outcomes.append(await _to_slack(daily, facts, sent, SLACK in updated))
    finally:
        await sent.release()
    return outcomes


async def _by_mail(
    settings: Settings,
    facts: DailyFacts,
    to: Sequence[str],
    sent: Sent,
    again: bool,
    update: bool,
) -> list[Outcome]:
    daily = settings.daily
    made = mail.compose(facts, daily, _message_id(settings, facts.date, again, update), update)

    async def send() -> list[mail.Refused]:
        return await asyncio.to_thread(mail.hand_over, made, daily, to)

    try:
        refused = {one.address: one.words for one in await _send_with_retries(send)}
    except mail.MailError as error:
        return [Outcome(_mail_recipient(address), str(error), failed=True) for address in to]
    outcomes = []
    for address in to:
        if address in refused:
            outcomes.append(
                Outcome(_mail_recipient(address), f"refused: {refused[address]}", failed=True)
            )
            continue
        await sent.note(digest(_mail_recipient(address)), time.time(), _open_numbers(facts))
        outcomes.append(Outcome(_mail_recipient(address), "delivered"))
    return outcomes


async def _to_slack(daily: Daily, facts: DailyFacts, sent: Sent, update: bool) -> Outcome:
    url = daily.slack_webhook() or ""
    message = slack.payload(facts, daily.public_url, update)
    try:
        await _send_with_retries(lambda: slack.post(url, message))
    except slack.SlackError as error:
        return Outcome(SLACK, str(error), failed=True)
    await sent.note(digest(SLACK), time.time(), _open_numbers(facts))
    return Outcome(SLACK, "delivered")


async def _send_with_retries(send: Callable[[], Awaitable[T]]) -> T:
    """Send, and retry errors that may pass."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await send()
        except (mail.MailError, slack.SlackError) as error:
            if not error.again or attempt == ATTEMPTS:
                raise
            asked_s = error.wait_s if isinstance(error, slack.SlackError) else 0.0
        await asyncio.sleep(min(max(asked_s, FIRST_WAIT_S * 2 ** (attempt - 1)), WAIT_MAX_S))
    raise AssertionError("unreachable")


def _open_numbers(facts: DailyFacts) -> str:
    """Return the numbers to remember with a delivery; empty if they are final."""
    return "" if facts.day.state == "sealed" else numbers(view_of(facts))


def _is_news(was: str, facts: DailyFacts) -> bool:
    """Return True if the day is final now and was delivered with different numbers."""
    told = was.partition(" ")[2]
    return bool(told) and facts.day.state == "sealed" and told != numbers(view_of(facts))


def _mail_recipient(address: str) -> str:
    return f"e-mail to {address}"


def _message_id(settings: Settings, date: str, again: bool, update: bool) -> str:
    kafka = settings.kafka
    whose = hashlib.sha256(f"{kafka.group}:{kafka.topic}".encode()).hexdigest()[:16]
    repeated = f".{uuid.uuid4().hex}" if again else ".final" if update else ""
    domain = (settings.daily.mail_from or "").rpartition("@")[2]
    return f"<daily.{date}.{whose}{repeated}@{domain}>"


def _instant(was: str) -> str:
    at_s = float(was.partition(" ")[0])
    return time.strftime("%Y-%m-%d at %H:%M UTC", time.gmtime(at_s))
