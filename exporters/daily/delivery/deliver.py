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
from exporters.daily.delivery.sent import Sent, recipient_hash
from exporters.daily.render.view import numbers, period_of, view_of
from streams.config.settings import Daily, Settings
from streams.errors import ConfigError, RequestError

T = TypeVar("T")

ATTEMPTS = 3
# Short, as a run holds the claim of the day meanwhile; the next run tries again anyway.
FIRST_WAIT_S, WAIT_MAX_S = 1.0, 30.0
SLACK = "Slack"


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The result of one delivery."""

    recipient: str  # `e-mail to board@example.com`, `Slack`
    words: str  # `delivered`; `delivered before, on 2026-11-04 at 08:00 UTC`; why it was not
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.recipient}: {self.words}"


def recipients(daily: Daily) -> list[str]:
    """Return all recipients of the board. Raises ConfigError if none is configured."""
    names = [_mail_recipient(address) for address in daily.mail_to]
    if daily.slack_webhook_file is not None:
        names.append(SLACK)
    if not names:
        raise ConfigError(
            "daily: no recipient of the board is configured; set smtp_host, mail_from and mail_to, "
            "or slack_webhook_file"
        )
    return names


async def deliver(
    settings: Settings, client: "aioredis.Redis", facts: DailyFacts, again: bool
) -> list[DeliveryOutcome]:
    """Deliver to all recipients that have not received this day.

    Recipients that received different numbers before the day was final get an update; `again`
    delivers to all. Raises ConfigError, StoreError and RequestError before any message is sent.
    """
    daily = settings.daily
    all_recipients = recipients(daily)
    # Raises ConfigError for a file that cannot be read, before the first message is sent.
    daily.smtp_password(), daily.slack_webhook()
    label = period_of(facts).label
    if facts.day.state == "running":
        raise RequestError(f"{label} is not over; send a closed {facts.period}")
    sent = Sent(client, settings.kafka.group, settings.kafka.topic, label)
    deliveries = await sent.claim(time.time())
    # Two runs at once would both send: the second one ends here.
    if deliveries is None:
        raise RequestError(f"another run is sending {label}; try again in some minutes")
    try:
        earlier = {
            recipient: deliveries[field]
            for recipient in all_recipients
            if (field := recipient_hash(recipient)) in deliveries
        }
        updated = {name for name, delivery in earlier.items() if _needs_update(delivery, facts)}
        pending = {name for name in all_recipients if again or name not in earlier} | updated
        outcomes = [
            DeliveryOutcome(name, f"delivered before, on {_instant(delivery)}; --again repeats it")
            for name, delivery in earlier.items()
            if name not in pending
        ]
        # One message for new recipients and one for updates: their subjects differ.
        for update in (False, True):
            addresses = [
                address
                for address in daily.mail_to
                if (name := _mail_recipient(address)) in pending and (name in updated) == update
            ]
            if addresses:
                outcomes += await _by_mail(settings, facts, addresses, sent, again, update)
        if SLACK in pending:
            outcomes.append(await _to_slack(daily, facts, sent, SLACK in updated))
    finally:
        await sent.release()
    return outcomes


async def _by_mail(
    settings: Settings,
    facts: DailyFacts,
    addresses: Sequence[str],
    sent: Sent,
    again: bool,
    update: bool,
) -> list[DeliveryOutcome]:
    daily = settings.daily
    message_id = _message_id(settings, period_of(facts).label, again, update)
    message = mail.compose(facts, daily, message_id, update)

    async def send() -> list[mail.RejectedRecipient]:
        return await asyncio.to_thread(mail.send, message, daily, addresses)

    try:
        rejections = await _send_with_retries(send)
    except mail.MailError as error:
        return [
            DeliveryOutcome(_mail_recipient(address), str(error), failed=True)
            for address in addresses
        ]
    reasons = {rejection.address: rejection.words for rejection in rejections}
    outcomes = []
    for address in addresses:
        recipient = _mail_recipient(address)
        if address in reasons:
            outcomes.append(
                DeliveryOutcome(recipient, f"rejected: {reasons[address]}", failed=True)
            )
            continue
        # At once and one by one: a run that dies later sends this one no second time.
        await sent.note(recipient_hash(recipient), time.time(), _open_numbers(facts))
        outcomes.append(DeliveryOutcome(recipient, "delivered"))
    return outcomes


async def _to_slack(daily: Daily, facts: DailyFacts, sent: Sent, update: bool) -> DeliveryOutcome:
    url = daily.slack_webhook() or ""
    message = slack.payload(facts, daily.public_url, update)
    try:
        await _send_with_retries(lambda: slack.post(url, message))
    except slack.SlackError as error:
        return DeliveryOutcome(SLACK, str(error), failed=True)
    await sent.note(recipient_hash(SLACK), time.time(), _open_numbers(facts))
    return DeliveryOutcome(SLACK, "delivered")


async def _send_with_retries(send: Callable[[], Awaitable[T]]) -> T:
    """Send, and retry errors that may pass."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await send()
        except (mail.MailError, slack.SlackError) as error:
            if not error.again or attempt == ATTEMPTS:
                raise
            # Slack's Retry-After; a mail server gives no such time.
            server_wait_s = error.wait_s if isinstance(error, slack.SlackError) else 0.0
        backoff_s = FIRST_WAIT_S * 2 ** (attempt - 1)
        await asyncio.sleep(min(max(server_wait_s, backoff_s), WAIT_MAX_S))
    raise AssertionError("unreachable")


def _open_numbers(facts: DailyFacts) -> str:
    """Return the numbers to remember with a delivery; empty if they are final."""
    return "" if facts.day.state == "sealed" else numbers(view_of(facts))


def _needs_update(delivery: str, facts: DailyFacts) -> bool:
    """Return True if the day is final now and was delivered with different numbers."""
    delivered_numbers = delivery.partition(" ")[2]
    # Without numbers the day was final when it was delivered, and does not change any more.
    if not delivered_numbers or facts.day.state != "sealed":
        return False
    return delivered_numbers != numbers(view_of(facts))


def _mail_recipient(address: str) -> str:
    return f"e-mail to {address}"


def _message_id(settings: Settings, date: str, again: bool, update: bool) -> str:
    """Return an ID that is the same for a repeated delivery, so that mail programs drop the copy.

    `again` and updates are new messages with an ID of their own.
    """
    kafka = settings.kafka
    source = hashlib.sha256(f"{kafka.group}:{kafka.topic}".encode()).hexdigest()[:16]
    suffix = f".{uuid.uuid4().hex}" if again else ".final" if update else ""
    domain = (settings.daily.mail_from or "").rpartition("@")[2]
    return f"<daily.{date}.{source}{suffix}@{domain}>"


def _instant(delivery: str) -> str:
    at_s = float(delivery.partition(" ")[0])
    return time.strftime("%Y-%m-%d at %H:%M UTC", time.gmtime(at_s))
