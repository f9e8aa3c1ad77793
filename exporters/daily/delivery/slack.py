"""The daily board as a Slack message, and the incoming webhook that takes it.

Text that contains a name is sent as plain text, in which Slack reads no markup. The webhook's URL
is a secret: no error message contains it, nor more of an answer than its status.
"""

from typing import Any

import aiohttp

from exporters.daily.day.facts import DailyFacts, Mark
from exporters.daily.render.rows import NumberRow
from exporters.daily.render.view import subject, view_of

TIMEOUT_S = 15.0
# Slack rejects longer texts; in characters.
_HEADER_LONGEST, _TEXT_LONGEST, _FIELD_LONGEST = 150, 3_000, 2_000
_SHAPES: dict[Mark, str] = {"best": "★", "met": "●", "missed": "✕", "unknown": "–"}


class SlackError(RuntimeError):
    """Slack rejected the message: one line. `again`: retry after `wait_s` seconds."""

    def __init__(self, words: str, again: bool, wait_s: float = 0) -> None:
        super().__init__(words)
        self.again, self.wait_s = again, wait_s


def payload(facts: DailyFacts, public_url: str | None, update: bool = False) -> dict[str, Any]:
    """Return the message; `update`: the day was delivered with different numbers before."""
    view = view_of(facts)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": _plain(subject(view, update), _HEADER_LONGEST)},
        {"type": "section", "text": _plain(view.headline, _TEXT_LONGEST)},
        {"type": "context", "elements": [_plain(view.trust, _FIELD_LONGEST)]},
        *(
            {"type": "context", "elements": [_plain(words, _FIELD_LONGEST)]}
            for words in view.corrections
        ),
        {"type": "section", "fields": [_field(row) for row in view.rows]},
    ]
    if view.causes:
        numbered = [f"{number}. {words}" for number, words in enumerate(view.causes, 1)]
        blocks.append({"type": "section", "text": _plain("\n".join(numbered), _TEXT_LONGEST)})
        blocks.append({"type": "context", "elements": [_plain(view.causes_note, _FIELD_LONGEST)]})
    if public_url is not None:
        address = f"{public_url}/daily?{view.query}"
        link = f"<{escape(address)}|Open the board of {view.this}>"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": link}})
    # Shown where blocks are not, such as in notifications.
    return {"text": escape(subject(view, update)), "blocks": blocks}


def escape(text: str) -> str:
    """Return a text in which Slack reads no mention and no link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def post(url: str, message: dict[str, Any]) -> None:
    """Send the message to the webhook. Raises SlackError."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            # A redirect would send the message to an address that the operator did not set.
            session.post(url, json=message, allow_redirects=False) as answer,
        ):
            status, wait = answer.status, answer.headers.get("Retry-After", "")
    # `from None`: the texts of these errors may contain the URL, which is a secret.
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        words = f"the webhook cannot be reached ({type(error).__name__})"
        raise SlackError(words, again=not isinstance(error, ValueError)) from None
    if status == 200:
        return
    fix = {
        403: "; Slack does not allow it, ask the workspace's owner",
        404: "; the webhook is gone, make another",
        410: "; its channel is archived, make another webhook",
    }.get(status, "")
    wait_s = float(wait) if wait.isdecimal() else 0.0
    again = status == 429 or status >= 500
    raise SlackError(f"the webhook answers with status {status}{fix}", again, wait_s)


def _plain(text: str, longest: int) -> dict[str, Any]:
    # Slack rejects an empty text as well.
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return {"type": "plain_text", "text": text or "–", "emoji": False}


def _field(row: NumberRow) -> dict[str, Any]:
    judged = f"{_SHAPES[row.value.mark]} {row.value.words}"
    target = f", {row.target}" if row.target else ""
    lines = [row.title, row.value.text, f"{judged}{target}"]
    if row.value.known:
        lines.append(row.value.known)
    # Against 28 days, or against the week or month before.
    shown = row.against[:1] if row.month is None else row.against[-1:]
    days = "" if row.month is None else "28-day "
    lines += [f"{one.words}, {days}{one.norm}" for one in shown if one.norm]
    return _plain("\n".join(lines), _FIELD_LONGEST)
