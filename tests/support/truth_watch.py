"""What the live board, Prometheus and Alertmanager say, side by side, every half second."""

import html
import json
import re
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError

from exporters.board.facts import State

EVERY_S = 0.5
PAGE_EVERY = 20  # looks at the three for one look at the HTML of the page
_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """An incident of the board; times in seconds since 1970."""

    alert: str | None
    severity: str
    words: str
    notification: str  # none, pending, firing
    at_s: float | None  # since when the alert fires, or when it will
    is_over: bool  # its condition ended, and its alert is kept firing

    @classmethod
    def of(cls, incident: dict[str, Any]) -> Self:
        """Return an incident of the board's JSON."""
        notification = incident["notification"]
        return cls(
            incident["alert"],
            incident["severity"],
            incident["words"],
            notification["state"],
            notification["at_s"],
            incident["is_over"],
        )


@dataclass(frozen=True, slots=True)
class BoardView:
    """The banner, and what is below it."""

    state: State
    headline: str
    notification: str
    incidents: tuple[Shown, ...]
    parts: frozenset[str]  # states of the cards and of the objectives
    made_at_s: float
    is_stale: bool  # the banner says that the numbers are old

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Self:
        """Return the view of the board's JSON."""
        cards = ("ttft_p95_s", "tpot_p95_s", "cache_hit_ratio", "availability_ratio")
        parts = [facts[card]["state"] for card in (*cards, "tokens_per_s")]
        parts += [row["state"] for row in facts["objectives"]]
        return cls(
            facts["state"],
            facts["headline"],
            facts["notification"],
            tuple(map(Shown.of, facts["troubles"])),
            frozenset(parts),
            facts["made_at_s"],
            facts["headline"].startswith(("These numbers are old", "Catching up")),
        )


@dataclass(frozen=True, slots=True)
class RuleAlert:
    """An active alert of Prometheus."""

    name: str
    labels: tuple[tuple[str, str], ...]
    severity: str
    is_firing: bool
    is_kept: bool  # its condition has ended, and `keep_firing_for` prolongs it
    active_at_s: float

    @classmethod
    def of(cls, alert: dict[str, Any]) -> Self:
        """Return an alert of Prometheus' API."""
        labels = alert["labels"]
        return cls(
            labels["alertname"],
            tuple(sorted(labels.items())),
            labels["severity"],
            alert["state"] == "firing",
            "keepFiringSince" in alert,
            datetime.fromisoformat(alert["activeAt"]).timestamp(),
        )


@dataclass(frozen=True, slots=True)
class SentAlert:
    """An alert that Alertmanager has."""

    name: str
    severity: str
    is_silent: bool  # inhibited or silenced

    @classmethod
    def of(cls, alert: dict[str, Any]) -> Self:
        """Return an alert of Alertmanager's API."""
        labels = alert["labels"]
        is_silent = alert["status"]["state"] == "suppressed"
        return cls(labels["alertname"], labels["severity"], is_silent)


@dataclass(frozen=True, slots=True)
class Moment:
    """All three at one time (epoch s)."""

    at_s: float
    board: BoardView
    rules: tuple[RuleAlert, ...]
    pager: tuple[SentAlert, ...]
    shown: tuple[str, str] | None  # verdict and notification in the HTML of the page


class TruthWatch:
    """Looks at the three until the block ends; `moments` are in the order of time."""

    def __init__(self, board_url: str, prometheus_url: str, alertmanager_url: str) -> None:
        """Addresses without a slash at the end; the last two are those of the APIs."""
        self._urls = board_url, prometheus_url, alertmanager_url
        self.moments: list[Moment] = []
        self._error: Exception | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def until(self, end_s: float) -> Sequence[Moment]:
        """Wait until this instant (epoch s) and return what was seen so far."""
        while time.time() < end_s:
            if self._error is not None:
                raise self._error
            time.sleep(EVERY_S)
        return list(self.moments)

    def _run(self) -> None:
        while not self._ended.wait(EVERY_S):
            try:
                moment = self._look()
                if moment is not None:
                    self.moments.append(moment)
            except Exception as error:  # raised again in the thread of the test
                self._error = error
                return

    def _look(self) -> Moment | None:
        """Return what is seen now; None if the board says that it has no numbers."""
        board, prometheus, alertmanager = self._urls
        at_s = time.time()
        try:
            facts = _ask(f"{board}/api/v1/live")["facts"]
        except HTTPError as error:
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            return None
        rules = _ask(f"{prometheus}/alerts")["data"]["alerts"]
        sent = _ask(f"{alertmanager}/alerts?active=true")
        return Moment(
            at_s,
            BoardView.of(facts),
            tuple(RuleAlert.of(alert) for alert in rules if alert["labels"]["severity"] != "none"),
            tuple(SentAlert.of(alert) for alert in sent if alert["labels"]["severity"] != "none"),
            None if len(self.moments) % PAGE_EVERY else _shown(f"{board}/"),
        )


def _shown(url: str) -> tuple[str, str]:
    """Return what stands in the banner of a page; no notification is an empty text."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
        text = html.unescape(answer.read().decode()).replace("\N{NO-BREAK SPACE}", " ")
    verdict = re.search(r'id="verdict">([^<]*)<', text)
    assert verdict is not None
    notification = re.search(r'id="notification">([^<]*)<', text)
    return verdict[1], notification[1] if notification is not None else ""


def _ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
        return json.load(answer)
