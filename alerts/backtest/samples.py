"""The samples of objectives over recorded events, at many instants at once.

Pure. The status of an objective of requests comes from running sums. That of an objective which
judges minutes or slices, or has credits, comes from the SLA engine, minute after minute.
"""

from collections.abc import Collection, Iterator

import numpy as np

from alerts.backtest.stack import STEP_S, Stack
from alerts.evaluation.matrix import Bools, Floats
from exporters.catalogue import objectives as catalogue
from exporters.catalogue.spec import Spec
from slo.alert_state import SampleKey, sample_key
from slo.engine.attainment import ObjectiveStatus, objective_status, period_of
from slo.engine.counting import RequestSelection
from slo.engine.credits import credit_share
from slo.engine.maintenance import causes
from slo.engine.minute_counts import DAY, MinuteCounts, Pair
from slo.engine.report import ObjectiveResult
from slo.policy.burn_rates import BURN_MINUTES
from slo.policy.indicators import LatencyRatio, RequestRatio
from slo.policy.policy import ErrorBudgetObjective, Policy
from streams.state.registry import Registry
from streams.state.tables import Ints, Table

ObjectiveSamples = dict[tuple[str, SampleKey], float]  # by metric and labels
SampleRows = dict[tuple[str, SampleKey], tuple[Floats, Bools]]
_SLOTS = 60 // STEP_S  # of a minute
_SLOT_BITS = 32


class ReplayedObjective:
    """One objective over recorded events."""

    def __init__(
        self,
        policy: Policy,
        objective: ErrorBudgetObjective,
        registry: Registry,
        span_s: tuple[int, int],
        apart_tiers: Collection[str],
    ) -> None:
        """`span_s`: first and last second of all slices; slots count from the first minute."""
        self.policy, self.objective = policy, objective
        self.selection = RequestSelection(
            policy, objective, lambda customer_id: customer_id, apart_tiers
        )
        first_day = span_s[0] // 60 // DAY
        self.minute_counts = MinuteCounts(first_day, span_s[1] // 60 // DAY + 1 - first_day)
        self.excluded = [(cause.begin, cause.end) for cause in causes(policy, objective, ())]
        self.worst: dict[tuple[str, str], tuple[float, int, int]] = {}
        self._registry = registry
        self._origin = span_s[0] // 60  # minute
        self._is_summed = objective.sla is None and isinstance(
            objective.indicator, RequestRatio | LatencyRatio
        )
        self._first_slots: dict[str, int] = {}  # of requests, by name
        self._as_of_s = span_s[1] - 1

    def rows(self, part: Stack | None, begin: int, ends: Ints, until: int) -> SampleRows:
        """Count the slots [begin, until), and return the samples at `ends`, the slots after each.

        `begin`: start of a minute, as is each begin after it.
        """
        counts = {} if part is None else self._counts(part)
        for name, table in counts.items():
            self._first_slots.setdefault(name, int(table.keys[0]))
        if not self._is_summed:
            return self._stepwise(counts, begin, ends, until)
        for name, table in counts.items():
            by_minute = Table.summed(table.keys // _SLOTS, table.values)
            for minute, pair in zip(
                by_minute.keys.tolist(), by_minute.values.tolist(), strict=True
            ):
                self.minute_counts.count(self._origin + minute, {name: tuple(pair)})
        # Minutes without requests were seen too: they are silent, not unknown.
        self.minute_counts.see(self._origin + begin // _SLOTS, self._origin + until // _SLOTS)
        self.minute_counts.running = self._origin + until // _SLOTS
        rows: SampleRows = {}
        if len(ends):
            for name in self.names():
                self._sum(rows, name, counts.get(name, Table.empty(2)), begin, ends, until)
        return rows

    def _counts(self, part: Stack) -> dict[str, Table]:
        """Return slot -> (total, bad) of each name."""
        names, selection = self._registry, self.selection
        series = [names.series[number] for number in part.series.tolist()]
        keys, totals, bads = selection.rows(part.counts, series)
        slots, numbers = (
            (part.customer_slots, part.customers)
            if selection.by_customer
            else (part.slots, part.series)
        )
        # Rows of counters follow those of requests, and exclusions read rising slots.
        order = np.argsort(slots[keys], kind="stable")
        keys, totals, bads = keys[order], totals[order], bads[order]
        slots, numbers = slots[keys], numbers[keys]
        group = np.empty(len(keys), np.int64)
        # Exclusions of some requests may hold for a stretch of time.
        firsts = np.unique(slots) if selection.varies else slots[:1]
        for slot, first in zip(
            firsts.tolist(), np.searchsorted(slots, firsts).tolist(), strict=True
        ):
            from_s = self._origin * 60 + slot * STEP_S
            of_name = selection.name_numbers(names.series, names.customers, from_s, from_s + STEP_S)
            group[first:] = of_name[numbers[first:]]
        selected = group >= 0
        table = Table.summed(
            (group[selected] << _SLOT_BITS) | slots[selected],
            np.column_stack((totals[selected], bads[selected])),
        )
        # A class of client errors may be bad without being counted again.
        has_requests = table.values[:, 0] > 0
        table = Table(table.keys[has_requests], table.values[has_requests])
        return {selection.names[at]: by_slot for at, by_slot in table.split(_SLOT_BITS)}

    # -- ratios of requests ------------------------------------------------------------------------

    def _sum(
        self, rows: SampleRows, name: str, counts: Table, begin: int, ends: Ints, until: int
    ) -> None:
        """Add the samples of one name: sums of whole minutes and of the running one."""
        held = self.minute_counts
        minutes = held.span(name, held.begin, held.end).counts.astype(np.int64)
        slots = np.zeros((until - begin + 1, 2), np.int64)
        slots[counts.keys - begin + 1] = counts.values
        for first, last in self.excluded:
            low, high = max(first - held.begin, 0), max(last - held.begin, 0)
            minutes[low:high] = 0
            low, high = ((at - self._origin) * _SLOTS - begin + 1 for at in (first, last))
            slots[max(low, 0) : max(high, 0)] = 0
        whole = np.concatenate((np.zeros((1, 2), np.int64), np.cumsum(minutes, axis=0)))
        parts = np.cumsum(slots, axis=0)
        running = (ends - 1) // _SLOTS  # the minute that is not over, from the origin
        partial = parts[ends - begin] - parts[running * _SLOTS - begin]
        now = running + self._origin  # minutes since 1970
        at = now - held.begin

        def since(minute: Ints) -> tuple[Ints, Ints]:
            sums = whole[at] - whole[np.clip(minute - held.begin, 0, at)] + partial
            return sums[:, 0], sums[:, 1]

        labels = {
            "policy": self.policy.name,
            "objective": self.objective.name,
            **self.scope(name),
        }
        is_named = ends > self._first_slots.get(name, -1)
        assert isinstance(self.objective.indicator, RequestRatio | LatencyRatio)
        least = max(self.objective.indicator.min_samples, 1)
        begins = {
            minute: period_of(self.objective.period, minute * 60)[0] for minute in set(now.tolist())
        }
        total, bad = since(np.array([begins[minute] for minute in now.tolist()]))
        rows[catalogue.ATTAINMENT.name, sample_key(labels)] = (
            (total - bad) / np.maximum(total, 1),
            is_named & (total >= least),
        )
        budget = self.objective.error_budget
        for window, length in BURN_MINUTES.items():
            total, bad = since(now + 1 - length)
            key = sample_key({**labels, "window": window})
            # One division of whole numbers, so that the result is the rounded exact one.
            rate = bad * budget.denominator / np.maximum(total * budget.numerator, 1)
            present = is_named & (total >= least)
            rows[catalogue.BURN_RATE.name, key] = rate, present
            rows[catalogue.ELIGIBLE.name, key] = total.astype(float), is_named
            worst = int(np.argmax(np.where(present, rate, 0)))
            if present[worst] and rate[worst] > self.worst.get((name, window), (0.0, 0, 0))[0]:
                end_s = self._origin * 60 + int(ends[worst]) * STEP_S
                self.worst[name, window] = float(rate[worst]), end_s, int(total[worst])

    # -- all other objectives ----------------------------------------------------------------------

    def _stepwise(self, counts: dict[str, Table], begin: int, ends: Ints, until: int) -> SampleRows:
        by_slot: dict[int, dict[str, Pair]] = {}
        for name, table in counts.items():
            for slot, pair in zip(table.keys.tolist(), table.values.tolist(), strict=True):
                by_slot.setdefault(slot, {})[name] = tuple(pair)
        first_end = int(ends[0]) if len(ends) else until + 1
        changes = list(self._changes(by_slot, begin, first_end, until))
        rows: SampleRows = {}
        stops = [*(at for at, _ in changes[1:]), len(ends)][: len(changes)]
        for (at, samples), stop in zip(changes, stops, strict=True):
            for key, value in samples.items():
                if key not in rows:
                    rows[key] = np.zeros(len(ends)), np.zeros(len(ends), np.bool_)
                rows[key][0][at:stop], rows[key][1][at:stop] = value, True
        return rows

    def _changes(
        self, by_slot: dict[int, dict[str, Pair]], begin: int, first_end: int, until: int
    ) -> Iterator[tuple[int, ObjectiveSamples]]:
        """Count the slots, and yield the samples after each that may change them.

        They come with the number of slots since `first_end`.
        """
        minute_counts = self.minute_counts
        of_minute: dict[str, Pair] = {}
        for slot in range(begin, until):
            minute, end = self._origin + slot // _SLOTS, slot + 1
            starts = slot % _SLOTS == 0
            if starts:
                of_minute, minute_counts.running = {}, minute
            if slot in by_slot:
                # Slices of one minute come one after another; the whole counts replace those.
                for name, (total, bad) in by_slot[slot].items():
                    before = of_minute.get(name, (0, 0))
                    of_minute[name] = before[0] + total, before[1] + bad
                minute_counts.count(minute, of_minute)
            # A minute is judged once it is over, at the end of the slice after it.
            if end % _SLOTS == 0:
                minute_counts.see(minute, minute + 1)
            if end >= first_end and (starts or slot in by_slot or end == first_end):
                yield end - first_end, self.samples(self._origin * 60 + end * STEP_S - 1)

    def names(self) -> list[str]:
        """Return the names with a status of their own; one empty name without `per`."""
        return self.minute_counts.names(self.objective.scope.per)

    def status(self, name: str, now_s: int) -> ObjectiveStatus:
        """Return the status at that time."""
        return objective_status(self.objective, self.minute_counts, name, self.excluded, now_s)

    def scope(self, name: str) -> dict[str, str]:
        """Return the scope of a name, by dimension."""
        return self._result(name, self.status(name, self._as_of_s)).scope(lambda token: token)

    def _result(self, name: str, status: ObjectiveStatus) -> ObjectiveResult:
        return ObjectiveResult(
            self.policy, self.objective, name, self.selection.customer, status, (), ()
        )

    def samples(self, as_of_s: int) -> ObjectiveSamples:
        """Return the samples at a second, the last of a slice; times rise."""
        self._as_of_s = as_of_s
        samples: ObjectiveSamples = {}
        for name in self.names():
            status = self.status(name, self._as_of_s)
            about = {
                "policy": self.policy.name,
                "objective": self.objective.name,
                **self._result(name, status).scope(lambda token: token),
            }

            def add(spec: Spec, value: float, about: dict[str, str]) -> None:
                samples[spec.name, sample_key(about)] = value

            ratio = status.attainment.ratio
            if ratio is not None:
                add(catalogue.ATTAINMENT, float(ratio), about)
                if self.objective.sla is not None:
                    share = credit_share(self.objective.sla, ratio)
                    add(catalogue.CREDIT_SHARE, float(share), about)
            for window, rate in status.burn.items():
                add(catalogue.BURN_RATE, float(rate), {**about, "window": window})
                if float(rate) > self.worst.get((name, window), (0.0, 0, 0))[0]:
                    worst = float(rate), self._as_of_s + 1, status.eligible[window]
                    self.worst[name, window] = worst
            for window, requests in status.eligible.items():
                add(catalogue.ELIGIBLE, float(requests), {**about, "window": window})
        return samples
