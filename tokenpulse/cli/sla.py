"""`tokenpulse maintenance` and `tokenpulse sla`: maintenance windows, and the objective status."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import click
import redis.asyncio as aioredis

from exporters.formatting import budget_left, burn_rate, exact_percent, money, percent
from exporters.metrics.objectives import engine_for
from exporters.reference.customers import (
    Customers,
    follow_tokens,
    load_directory,
    tokens_with,
)
from slo.engine.counting import RequestSelection
from slo.engine.maintenance import Maintenance
from slo.engine.minute_count_store import MinuteCountStore
from slo.engine.minute_counts import DAY
from slo.engine.report import credits, instant, report
from slo.engine.tracked import retention_days
from slo.policy.loading import PolicyError, load_policies
from slo.policy.scope import CalendarMonth, Period
from slo.policy.units import Money, instant_s
from streams.config.settings import Settings
from streams.errors import ConfigError, RequestError
from streams.store.reader import StateReader
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.option_types import AUTHOR, Words
from tokenpulse.redis_call import run_with_redis

READS_MAX = 10_000
_BEGIN_WITHIN = timedelta(hours=1)  # of the begin of a period, a first request is one of its begin


@click.group()
def maintenance() -> None:
    """Manage windows whose minutes do not count (docs/sla.md)."""


@maintenance.command("add")
@click.option("--from", "from_", required=True, help="Start: 2026-01-31T22:00Z, a whole minute.")
@click.option("--to", required=True, help="End, not included.")
@click.option("--reason", type=Words(), required=True, help="Reason; the customer may read it.")
@AUTHOR
@click.option("--policy", help="Only this policy; default: all.")
@click.option("--objective", help="Only this objective of the policy.")
@click.pass_context
def maintenance_add(
    ctx: click.Context,
    from_: str,
    to: str,
    reason: str,
    author: str,
    policy: str | None,
    objective: str | None,
) -> None:
    """Add a maintenance window.

    Its minutes do not count. If they are in a closed period, `tokenpulse sla` shows the result of
    that period with and without the window.
    """
    settings = load_client_settings(ctx.obj)
    _check_names(settings, policy, objective)
    try:
        window = Maintenance(
            id=f"m-{uuid.uuid4().hex[:12]}",
            from_s=_instant("--from", from_),
            to_s=_instant("--to", to),
            author=author,
            reason=reason,
            created_at_s=int(time.time()),
            policy=policy,
            objective=objective,
        )
    except ValueError as error:
        raise ConfigError(f"maintenance: {error}") from error
    run_with_redis(settings, lambda client: _store(settings, client).put_window(window))
    click.echo(f"{window.id}: {_describe(window)}")


@maintenance.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def maintenance_list(ctx: click.Context, as_json: bool) -> None:
    """Show all windows, cancelled ones included."""
    settings = load_client_settings(ctx.obj)
    windows = run_with_redis(settings, lambda client: _store(settings, client).windows())
    if as_json:
        click.echo(json.dumps([json.loads(window.pack()) for window in windows], indent=1))
        return
    for window in windows:
        click.echo(f"{window.id}: {_describe(window)}")


@maintenance.command("cancel")
@click.argument("window")
@click.option("--reason", type=Words(), required=True, help="Reason.")
@AUTHOR
@click.pass_context
def maintenance_cancel(ctx: click.Context, window: str, reason: str, author: str) -> None:
    """Cancel a window. It stays in the list, with the author and the reason."""
    settings = load_client_settings(ctx.obj)

    async def cancel(client: "aioredis.Redis") -> Maintenance:
        store = _store(settings, client)
        known = {window.id: window for window in await store.windows()}
        if window not in known:
            raise ConfigError(f"{window}: no such window; see `tokenpulse maintenance list`")
        try:
            cancelled = known[window].cancel(author, reason, int(time.time()))
        except ValueError as error:
            raise ConfigError(f"maintenance: {error}") from error
        await store.put_window(cancelled)
        return cancelled

    click.echo(f"{window}: {_describe(run_with_redis(settings, cancel))}")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_context
def sla(ctx: click.Context, as_json: bool) -> None:
    """Show every objective with an error budget: its status, credits and adjustments.

    Objectives with thresholds, such as a P95, have no budget; the live board shows them. A period
    that was closed wrongly is opened again by `tokenpulse sla reopen`.
    """
    if ctx.invoked_subcommand is not None:
        return
    settings = load_client_settings(ctx.obj)
    policies = load_policies(settings.exporter.policies)
    directory = load_directory(settings)
    customers = Customers(directory)

    async def read_status(client: "aioredis.Redis") -> list[dict[str, object]]:
        engine = engine_for(settings, policies, client)
        reader = StateReader(client, settings.kafka.group, settings.kafka.topic)
        # The engine needs all parts of one snapshot; a worker may replace slices meanwhile.
        for _ in range(READS_MAX):
            now_s = time.time()
            snapshot = await reader.snapshot()
            follow_tokens(directory, snapshot.tokens)
            results = await engine.refresh(snapshot, now_s, keep=False)
            if results is not None:
                break
        else:
            raise PolicyError("the state is rewritten faster than it can be read; try again")
        results += engine.results_without_names(int(now_s))
        due = credits(results, lambda result: result.status.attainment.ratio, customers.fee_of)
        ahead = credits(results, lambda result: result.status.projected, customers.fee_of)
        entries = report(results, due, ahead, customers.name_of)
        for entry, result in zip(entries, results, strict=True):
            if (minute := engine.counted_from(result)) is not None:
                entry["counted_from"] = instant(minute)
        return entries

    entries = run_with_redis(settings, read_status)
    if as_json:
        click.echo(json.dumps(entries, indent=1))
    else:
        for line in lines(entries):
            click.echo(line)


@sla.command("reopen")
@click.argument("contract")
@click.argument("period")
@click.option("--reason", type=Words(), required=True, help="Reason; the customer may read it.")
@AUTHOR
@click.pass_context
def sla_reopen(ctx: click.Context, contract: str, period: str, reason: str, author: str) -> None:
    """Open a closed period again, so that it is closed from its present counts.

    CONTRACT is POLICY/OBJECTIVE as `tokenpulse sla` shows it; PERIOD is a month, 2026-11, or for a
    rolling period a day in UTC, 2026-11-08. The former result stays in `tokenpulse sla`, with
    author and reason. The exporter closes the period again within a minute.
    """
    settings = load_client_settings(ctx.obj)
    policies = load_policies(settings.exporter.policies)
    found = [
        (policy, objective)
        for policy in policies
        for objective in policy.error_budget_objectives()
        if f"{policy.name}/{objective.name}" == contract
    ]
    if not found:
        raise ConfigError(
            f"CONTRACT: got {contract!r}; no policy in force has this objective with an error "
            "budget; `tokenpulse sla` shows them as POLICY/OBJECTIVE"
        )
    policy, objective = found[0]
    begin = _period_begin(objective.period, period)
    selection = RequestSelection(
        policy, objective, tokens_with(settings), settings.latency.apart_tiers
    )
    now_s = int(time.time())
    if begin < (now_s // 86_400 + 2 - retention_days(objective)) * DAY:
        raise RequestError(f"PERIOD: the counts of {period} are no longer kept; it stays closed")
    count = run_with_redis(
        settings,
        lambda client: _store(settings, client).reopen(selection.id, begin, now_s, author, reason),
    )
    if not count:
        raise RequestError(
            f"PERIOD: {period} of {contract} is not closed; `tokenpulse sla --json` lists the "
            "closed periods"
        )
    click.echo(f"{contract}: {period} is open again ({count} closed before), by {author}: {reason}")


def _period_begin(period: Period, text: str) -> int:
    """Return the first minute of a period, as the objective divides time."""
    is_month = isinstance(period, CalendarMonth)
    try:
        at = datetime.strptime(text, "%Y-%m" if is_month else "%Y-%m-%d")
    except ValueError as error:
        expected = "a month, as 2026-11" if is_month else "a day in UTC, as 2026-11-08"
        raise ConfigError(f"PERIOD: got {text!r}; give {expected}") from error
    zone = period.zone if isinstance(period, CalendarMonth) else UTC
    return int(at.replace(tzinfo=zone).timestamp()) // 60


def lines(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a report (slo/engine/report.py) for people."""
    for entry in entries:
        scope = ", ".join(f"{key} {name}" for key, name in entry["scope"].items())
        # Fractions: with floats an objective at its very target could seem missed.
        target = Fraction(entry["target_ratio"])
        attained = _ratio(entry["attainment"])
        judged = "" if attained is None else ", met" if attained >= target else ", MISSED"
        yield (
            f"{entry['policy']}/{entry['objective']}{' (' + scope + ')' if scope else ''}: "
            f"{percent(attained, target)} of {exact_percent(target)}{judged}, "
            f"{_since(entry)}"
        )
        if "unknown" in entry:
            yield f"  unknown: {entry['unknown']['words']}"
        if "error_budget_left_ratio" in entry:
            left = budget_left(Fraction(entry["error_budget_left_ratio"]))
            rates = [f"{window} {burn_rate(rate)}" for window, rate in entry["burn_rate"].items()]
            yield f"  error budget: {left}"
            if rates:
                yield f"  burn rate: {', '.join(rates)}"
        # Of a budget that is spent already, when is not known: the report has the present there.
        if "budget_exhausted_at" in entry and not entry["budget_is_spent"]:
            yield f"  budget used up at {entry['budget_exhausted_at']}, at the pace of the last day"
        if due := entry.get("credit", {}).get("due"):
            ahead = entry["credit"].get("projected", due)
            yield f"  credit {_amount(due)} now, {_amount(ahead)} projected"
        for change in entry["adjustments"]:
            before, now = _ratio(change["before"]), _ratio(change["now"])
            yield (
                f"  closed {change['before']['from']}: {percent(before, target)}; today it would "
                f"be {percent(now, target)} ({'; '.join(change['because'])})"
            )
        yield from _reopening_lines(entry, target)


def _reopening_lines(entry: Mapping[str, Any], target: Fraction) -> Iterator[str]:
    for one in entry.get("reopened", ()):
        yield (
            f"  reopened {one['before']['from']} on {one['at']} by {one['author']}: "
            f"{one['reason']}; it was closed with {percent(_ratio(one['before']), target)}"
        )


def _since(entry: Mapping[str, Any]) -> str:
    """Return from when on the attainment is: the period's begin, or its first request if later."""
    begin = datetime.fromisoformat(entry["period"]["from"])
    first = datetime.fromisoformat(entry.get("counted_from", entry["period"]["from"]))
    # Without this the report of a new installation would seem to be of a month.
    if first - begin <= _BEGIN_WITHIN:
        return f"since {entry['period']['from']}"
    return (
        f"since {entry['counted_from']}, the first request of the period that began "
        f"{entry['period']['from']}"
    )


def _ratio(attainment: Mapping[str, Any]) -> Fraction | None:
    return Fraction(attainment["ratio"]) if "ratio" in attainment else None


def _amount(text: str) -> str:
    """Return an amount of the report, `1250.00 USD`, with its thousands separated."""
    amount = Money.read(text)
    return money(amount.amount, amount.currency)


def _store(settings: Settings, client: "aioredis.Redis") -> MinuteCountStore:
    return MinuteCountStore(client, settings.kafka.group, settings.kafka.topic)


def _instant(option: str, text: str) -> int:
    try:
        return instant_s(text)
    except ValueError as error:
        raise ConfigError(f"{option}: got {text!r}; {error}") from error


def _check_names(settings: Settings, policy: str | None, objective: str | None) -> None:
    """Raise ConfigError for an unknown name: such a window would exclude no minute, silently."""
    if policy is None:
        return
    known = {item.name: item for item in load_policies(settings.exporter.policies)}
    if policy not in known:
        raise ConfigError(f"--policy: got {policy!r}; in force are {', '.join(sorted(known))}")
    names = [item.name for item in known[policy].error_budget_objectives()]
    if objective is not None and objective not in names:
        raise ConfigError(f"--objective: got {objective!r}; {policy} has {', '.join(names)}")


def _describe(window: Maintenance) -> str:
    scope = "/".join(part for part in (window.policy, window.objective) if part) or "everything"
    text = (
        f"{instant(window.from_s // 60)} to {instant(window.to_s // 60)}, {scope}, "
        f"by {window.author}: {window.reason}"
    )
    if window.cancelled_at_s is not None:
        text += f" (cancelled by {window.cancelled_by}: {window.cancelled_why})"
    return text
