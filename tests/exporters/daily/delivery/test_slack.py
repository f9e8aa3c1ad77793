"""The board in Slack: content, limits, retries and the secret webhook."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporters.daily.delivery import deliver as delivery
from exporters.daily.delivery.slack import payload
from streams.errors import ConfigError
from tests.support.daily_samples import hostile_facts
from tests.support.mailboxes import Channel


def test_slack_gets_headline_numbers_and_link(
    channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = {"slack_webhook_file": webhook_file, "public_url": "https://board.example.com"}
    assert send(daily) == [("Slack", "delivered", False)]
    [message] = channel.messages
    assert message["text"].startswith("Reliability 2026-11-03: missed P95 TTFT")
    told = json.dumps(message, ensure_ascii=False)
    for words in (
        "P95 TTFT at 314 ms, error budget (overdrawn by 29 %)",
        "✕ missed, under 300 ms",
        "99.953 %",
    ):
        assert words in told
    link = "<https://board.example.com/daily?date=2026-11-03|Open the board of this day>"
    assert message["blocks"][-1] == {
        "type": "section",
        "text": {"type": "mrkdwn", "text": link},
    }


def test_slack_reads_no_markup_in_names_and_nothing_is_too_long_for_it() -> None:
    message = payload(replace(hostile_facts(), headline="long " * 1_000), None)
    assert len(message["blocks"]) <= 50
    assert "<!" not in message["text"]

    def texts(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            if "text" in node and isinstance(node["text"], str) and "type" in node:
                yield node
            for one in node.values():
                yield from texts(one)
        elif isinstance(node, list):
            for one in node:
                yield from texts(one)

    found = list(texts(message["blocks"]))
    assert len(found) > 8
    for one in found:
        assert one["type"] == "plain_text"  # mrkdwn would mention a channel
        assert 0 < len(one["text"]) <= 3_000
    for block in message["blocks"]:
        if block["type"] == "header":
            assert len(block["text"]["text"]) <= 150
        assert len(block.get("fields", [])) <= 10


def test_slack_is_asked_again_only_where_that_may_help(
    channel: Channel, webhook_file: Path, send: Callable[..., Any]
) -> None:
    daily = {"slack_webhook_file": webhook_file}
    channel.answers = [(429, {"Retry-After": "1"}), (503, {})]
    assert send(daily) == [("Slack", "delivered", False)]
    assert channel.tried == 3
    for status, tries in ((403, 1), (302, 1), (500, delivery.ATTEMPTS)):
        channel.tried, channel.answers = 0, [(status, {"Location": channel.url})] * 9
        [(_, words, failed)] = send(daily, again=True)
        assert failed
        assert words.startswith(f"the webhook answers with status {status}")
        assert channel.tried == tries
        assert "hunter2" not in words


def test_no_error_says_the_webhook(
    tmp_path: Path, unused_port: int, send: Callable[..., Any]
) -> None:
    file = tmp_path / "webhook"
    file.write_text(f"http://127.0.0.1:{unused_port}/services/hunter2")
    [(_, words, failed)] = send({"slack_webhook_file": file})
    assert failed
    assert "cannot be reached" in words
    assert "hunter2" not in words
    for text in (
        "http://example.com/hunter2",
        "hunter2",
        "https://[hunter2",
        "https://a/hunter2 b",
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as refused:
            send({"slack_webhook_file": file})
        assert "hunter2" not in str(refused.value)
        assert "contains no https:// URL" in str(refused.value)
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ConfigError, match=r"daily\.slack_webhook_file: cannot read"):
            send({"slack_webhook_file": path})
