"""One refresh of the exporter: reads the state, brings windows and objectives up to date.

A shell around the pure modules: Redis is read here, the time comes as an argument. The page for
Prometheus is built by page_builder.py, the facts of the live board by board/live/build.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

import redis.asyncio as aioredis

from exporters.board.alerts import ActiveAlerts, AlertRules, NoAlertRules, samples_for
from exporters.board.facts import LiveFacts
from exporters.board.incidents.failures import OUTAGE_WINDOW
from exporters.board.incidents.log import IncidentLog
from exporters.board.incidents.newest import NEWEST_S
from exporters.board.input import BoardInput
from exporters.board.live.build import LiveBoard, board_sums
from exporters.board.objectives import HISTORY_DAYS, history_objectives
from exporters.board.tiles import WINDOW
from exporters.catalogue.spec import SCOPE_LABELS
from exporters.drill.current import CurrentWindow
from exporters.metrics import pipeline as pipeline_samples
from exporters.metrics.exposition import Page
from exporters.metrics.objectives import engine_for
from exporters.reference.customers import Customer, Customers, follow_tokens, tokens_with
from exporters.reference.prices import load_price_book
from exporters.server.incident_store import BoardIncidentStore
from exporters.server.page_builder import PageBuilder
from exporters.windows.minutes import Minutes
from exporters.windows.plan import scope_grouping
from exporters.windows.tracker import WindowTracker
from slo.alert_state import AlertState
from slo.engine.report import ObjectiveResult
from slo.policy.loading import load_policies
from slo.policy.reserved import reserved_names
from streams.clock import ClockReading, RedisClock, SteadyChoice
from streams.config.settings import Settings
from streams.state.coverage import Coverage
from streams.store.reader import StateReader, StateSnapshot
from streams.store.source_store import SourceStore


@dataclass(frozen=True, slots=True)
class Collected:
    """The outcome of one refresh."""

    page: Page
    partitions: int  # that have state; 0 before the first event
    clock: ClockReading
    now_s: float  # the present time, as chosen of the two clocks
    newest_pulse_s: float | None  # time of the newest heartbeat of any worker
    live: LiveFacts | None  # None before the first event
    current: CurrentWindow | None = None  # the same window by place; None before the first event

    @property
    def shift_s(self) -> float:
        """From the wall clock to the time of all of this; not 0 if the wall clock is wrong."""
        return self.now_s - self.clock.wall_s


class Collector:
    """Reads the state of one consumer group, refresh after refresh."""

    def __init__(
        self,
        settings: Settings,
        client: "aioredis.Redis",
        customers: Mapping[str, Customer],
        rules: AlertRules | None = None,
    ) -> None:
        """`customers`: by the token that the state has for them. `rules`: evaluate the alert rules
        for the board; without them it shows no alert. Raises ConfigError.
        """
        self._rules = rules or NoAlertRules()
        self._settings, self._client, self._customers = settings, client, customers
        self._policies = load_policies(settings.exporter.policies)
        book = settings.exporter.price_book
        self._book = None if book is None else load_price_book(book)
        kafka = settings.kafka
        self._incidents = BoardIncidentStore(client, kafka.group, kafka.topic)
        self._firing: list[AlertState] = []
        self._has_resumed = False
        self._steady = SteadyChoice()
        self.forget()

    def forget(self) -> None:
        """Drop all that was read, as after a failed refresh: when Redis comes back it may have
        another state under the same numbers."""
        settings = self._settings
        kafka = settings.kafka
        self._reader = StateReader(self._client, kafka.group, kafka.topic)
        self._sources = SourceStore(self._client, kafka.group, kafka.topic)
        self._engine = engine_for(settings, self._policies, self._client)
        self._pages = PageBuilder(settings, self._policies, self._customers, self._book)
        self._tracker = WindowTracker(
            self._tracked_sums(),
            {scope: scope_grouping(scope) for scope in SCOPE_LABELS} | self._pages.price_groupings,
            ZoneInfo(settings.exporter.time_zone),
            settings.latency.apart_tiers,
        )
        self._minutes = Minutes(settings.latency.apart_tiers)
        self._seen_tokens: Mapping[str, str] = {}
        self._contract_tokens: set[str] = set()  # of the customers in the policies
        self._board = LiveBoard(
            self._policies,
            Customers(self._customers).name_of,
            settings.exporter.stale_after_s,
        )
        self._checkpoints: dict[int, bytes] = {}  # partition -> metadata of the last one read
        self._freshness_s: dict[int, float] = {}

    def _follow_tokens(self, snapshot: StateSnapshot) -> None:
        """Look customers up by the tokens that the state has for them."""
        if snapshot.tokens is self._seen_tokens:
            return
        self._seen_tokens = snapshot.tokens
        follow_tokens(self._customers, snapshot.tokens)
        token_of = tokens_with(self._settings, snapshot.tokens)
        tokens = set(map(token_of, reserved_names(self._policies).customer))
        if tokens != self._contract_tokens:
            # Objectives select by token. The table comes back late if Redis has lost it.
            self._engine = engine_for(self._settings, self._policies, self._client)
            self._contract_tokens = tokens

    async def collect(self, clock: RedisClock) -> Collected:
        """Read the state and return all that is known by now.

        `clock`: asked for the time; nothing becomes final unless it agrees. Raises StoreError if
        the state cannot be read.
        """
        # One snapshot for windows, minutes and objectives, so that all numbers are of one moment.
        snapshot = await self._reader.snapshot()
        self._follow_tokens(snapshot)
        reading = await clock.read()
        now_s = self._steady.likely_s(reading, snapshot.watermark_s)
        await self._load(snapshot, now_s)
        results = (
            await self._engine.finish(snapshot, now_s, may_close=reading.agrees)
            if snapshot.views
            else None
        )
        lags = self._lags(snapshot, now_s)
        self._note_freshness(snapshot, now_s)
        sources = await self._sources.read(now_s)
        page = self._pages.build(
            snapshot, self._tracker, lags, self._freshness_s, results, sources, now_s
        )
        pipeline_samples.add_exporter_clock(page, reading)
        live = current = None
        if snapshot.views:
            if not self._has_resumed:
                if stored := await self._incidents.read_alerts():
                    self._rules.resume(stored.firing, stored.seen_s, now_s)
                self._has_resumed = True
            board_input = replace(
                self._reading(page, snapshot, lags, results, now_s),
                unseen_sources=sources.never_seen(now_s),
            )
            if self._board.incident_log is None:
                self._board.incident_log = IncidentLog(await self._incidents.read())
            live = self._board.facts(board_input)
            await self._incidents.write(self._board.incident_log, now_s)
            await self._incidents.write_alerts(self._firing, now_s)
            current = self._current(board_input)
        # Partitions without a heartbeat yet have no time.
        pulsed_ms = [
            at_ms
            for heartbeat in snapshot.heartbeats
            if (at_ms := heartbeat.number("at_ms")) is not None
        ]
        newest_pulse_s = max(pulsed_ms) / 1_000 if pulsed_ms else None
        return Collected(page, len(snapshot.views), reading, now_s, newest_pulse_s, live, current)

    # -- reading ---------------------------------------------------------------------------------

    async def _load(self, snapshot: StateSnapshot, now_s: float) -> None:
        """Give all slices that changed to their consumers."""
        self._tracker.begin(now_s)
        self._minutes.begin(now_s)
        await self._engine.begin(snapshot, now_s)
        await snapshot.load([self._tracker, self._minutes, self._engine])
        if snapshot.views:
            self._tracker.update(snapshot)

    def _tracked_sums(self) -> dict[str, list[str]]:
        """Return, by window, the scopes that are published, and those that the board needs."""
        tracked = {name: list(scopes) for name, scopes in self._pages.plan.items()}
        for name, scopes in board_sums(self._policies, self._rules).items():
            # The board needs sums of windows and scopes that are not published.
            of_window = tracked.setdefault(name, [])
            of_window += [scope for scope in sorted(scopes) if scope not in of_window]
        return tracked

    def _lags(self, snapshot: StateSnapshot, now_s: float) -> dict[int, int]:
        """Return the records that wait, by partition; only those whose worker is alive."""
        offsets = {view.partition: view.offset for view in snapshot.views if view.is_readable}
        stale_after_s = self._settings.exporter.stale_after_s
        lags = {
            heartbeat.partition: heartbeat.lag(offsets[heartbeat.partition], now_s, stale_after_s)
            for heartbeat in snapshot.heartbeats
            if heartbeat.partition in offsets
        }
        return {partition: lag for partition, lag in lags.items() if lag is not None}

    def _note_freshness(self, snapshot: StateSnapshot, now_s: float) -> None:
        """Note how old the newest event of each newly written checkpoint is."""
        for view in snapshot.views:
            known = self._checkpoints.get(view.partition)
            watermark_ms = view.meta.watermark_ms
            # Unknown for the first checkpoint: this exporter did not see when it was written.
            if known not in (None, view.stored_meta) and watermark_ms is not None:
                self._freshness_s[view.partition] = max(0.0, now_s - watermark_ms / 1_000)
            self._checkpoints[view.partition] = view.stored_meta

    # -- the live board --------------------------------------------------------------------------

    def _reading(
        self,
        page: Page,
        snapshot: StateSnapshot,
        lags: Mapping[int, int],
        results: Sequence[ObjectiveResult] | None,
        now_s: float,
    ) -> BoardInput:
        spans = self._tracker.spans(snapshot)
        newest_s = spans[OUTAGE_WINDOW][1] - NEWEST_S
        tracker = self._tracker
        return BoardInput(
            now_s=now_s,
            names={name: grouping.keys for name, grouping in tracker.groupings.items()},
            windows={name: window.sums for name, window in tracker.windows.items()},
            spans=spans,
            newest=tracker.newest(newest_s),
            newest_s=newest_s,
            views=snapshot.views,
            heartbeats=snapshot.heartbeats,
            coverage=Coverage.of(view.meta for view in snapshot.views),
            lags=lags,
            delays_s=dict(self._freshness_s),
            minutes=self._minutes.last_hour(snapshot, now_s),
            results=results,
            alerts=self._alerts(page, results or (), now_s),
            days={
                result.key: self._engine.by_day(result, HISTORY_DAYS, int(now_s))
                for result in history_objectives(results or ())
            },
        )

    def _current(self, reading: BoardInput) -> CurrentWindow:
        from_s, to_s = reading.spans[WINDOW]
        # Another thread reads it while the next refresh replaces the sums of the tracker.
        sums = dict(reading.windows[WINDOW])
        return CurrentWindow(
            WINDOW, from_s, to_s, reading.names, sums, reading.fleet(WINDOW), self._board.limits
        )

    def _alerts(self, page: Page, results: Sequence[ObjectiveResult], now_s: float) -> ActiveAlerts:
        """Evaluate the alert rules over the page, the board's windows and the objectives."""
        windows = {name: window.sums for name, window in self._tracker.windows.items()}
        samples = samples_for(self._rules, windows, self._tracker.groupings, results, page)
        states = self._rules.evaluate(samples, now_s)
        self._firing = [state for state in states if state.firing_since_s is not None]
        return ActiveAlerts(states)
