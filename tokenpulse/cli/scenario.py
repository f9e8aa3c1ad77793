"""The `tokenpulse scenario` commands: faults in simulated traffic that runs.

A shell: options in, an order for the simulators through Redis, lines out.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from streams.config.settings import Settings, load_settings
from streams.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from streams.simulator.scenario_store import OrderStore, Reading
    from streams.simulator.scenarios import Scenario
    from tokenpulse.local.discovery import RunningStack

T = TypeVar("T")

OBEYED_WITHIN_S = 5.0
POLL_S = 0.1
FILTERS = {  # option -> field of an event
    "model": "model",
    "region": "region",
    "channel": "channel",
    "tier": "service_tier",
    "customer": "customer_id",
}
OPTION_OF = {
    "start": "--in",
    "duration": "--for",
    **{f"where.{field}": f"--{option}" for option, field in FILTERS.items()},
}
URL = click.option(
    "--url", help="Redis of the simulators; default: redis.url if set, else `tokenpulse up`'s."
)


class Kinds(click.Group):
    """Has a command for each kind of scenario; their code is loaded when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click."""
        from streams.simulator.scenarios import KINDS

        return [*super().list_commands(ctx), *KINDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click."""
        from streams.simulator.scenarios import KINDS

        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        kind = cmd_name.replace("-", "_")
        return _kind_command(kind, KINDS[kind]) if kind in KINDS else None


@click.group(cls=Kinds)
def scenario() -> None:
    """Faults in the simulated traffic of `up` and `simulate`, while it runs."""


def _kind_command(kind: str, model: Any) -> click.Command:
    """The command that switches one kind of scenario on, with its parameters as options."""

    def order(ctx: click.Context, /, url: str | None, **options: Any) -> None:
        _order(
            ctx, url, kind, {name: value for name, value in options.items() if value is not None}
        )

    about = " ".join((model.__doc__ or "").split())
    command = click.pass_context(order)
    for option in reversed(
        [
            click.option("--for", "for_", required=True, help="How long, e.g. 90s, 5m, 2h."),
            click.option("--in", "in_", default="0s", help="Begin after this long; default: now."),
            *(click.option(f"--{name}", help=f"Only this {name}.") for name in FILTERS),
            *_parameters(model),
            URL,
        ]
    ):
        command = option(command)
    return click.command(kind, help=about)(command)


def _parameters(model: Any) -> list[Any]:
    common = {"kind", "start", "duration", "where"}
    return [
        click.option(
            _option(name),
            name,
            type=str if isinstance(field.default, timedelta) else float,
            help=f"Default: {_span(field.default)}.",
        )
        for name, field in model.model_fields.items()
        if name not in common
    ]


def _span(value: object) -> str:
    return f"{value.total_seconds():g}s" if isinstance(value, timedelta) else f"{value:g}"


def _option(name: str) -> str:
    return OPTION_OF.get(name, f"--{name.replace('_', '-')}")


def _order(ctx: click.Context, url: str | None, kind: str, options: dict[str, Any]) -> None:
    from streams.query.partitions import who
    from streams.simulator.profile import Profile
    from streams.simulator.scenario_requests import described, new_order
    from streams.simulator.scenarios import TimelineError
    from streams.simulator.timeline import Timeline

    where = {field: options.pop(name) for name, field in FILTERS.items() if name in options}
    entry = {"kind": kind, "start": options.pop("in_"), "duration": options.pop("for_")}
    entry |= {"where": where, **options}
    try:
        Timeline(source=kind).with_entry(entry).check_names(Profile.default().names())
    except TimelineError as error:
        raise TimelineError(_as_options(kind, str(error))) from error

    async def give(store: "OrderStore") -> str | None:
        reading = await store.read()
        order = new_order(entry, reading.now_ms, who())
        await store.give(order, reading)
        click.echo(
            f"{order.id}: {described(order.scenario)}, {_when(order.scenario, reading.now_ms)}"
        )
        if await _until(store, lambda now: order.id in _obeyed(now)):
            return order.id
        await store.withdraw([order.id])
        return None

    settings, stack = _simulators(ctx, url)
    given = _with_store(settings, give)
    if given is None:
        _fail(f"no simulator took it within {OBEYED_WITHIN_S:.0f} s; it is withdrawn: start one")
    if stack is not None:
        click.echo(f"  watch it  {stack.board_url}")
    click.echo(f"  end it    tokenpulse scenario stop {given}")


@scenario.command("list")
@URL
@click.pass_context
def scenario_list(ctx: click.Context, url: str | None) -> None:
    """Show which ordered scenarios are on or will be, and until when."""
    from streams.simulator.scenario_requests import described

    async def show(store: "OrderStore") -> None:
        now = await store.read()
        for problem in now.unreadable:
            click.echo(f"tokenpulse: {problem}", err=True)
        pending = [order for order in now.orders if order.scenario.end_ms > now.now_ms]
        for order in sorted(pending, key=lambda order: order.scenario.start_ms):
            when = _when(order.scenario, now.now_ms)
            if order.id not in _obeyed(now):
                when += ", taken by no simulator"
            click.echo(f"{order.id}: {described(order.scenario)}, {when}, by {order.by}")
        if not pending:
            click.echo("nothing is on")
        if not any(one.is_alive(now.now_ms) for one in now.simulators):
            click.echo("no simulator runs", err=True)

    settings, _ = _simulators(ctx, url)
    _with_store(settings, show)


@scenario.command("stop")
@click.argument("order_id", required=False, metavar="[ID]")
@click.option("--all", "every", is_flag=True, help="All that are on or will be.")
@URL
@click.pass_context
def scenario_stop(ctx: click.Context, order_id: str | None, every: bool, url: str | None) -> None:
    """End a scenario; without ID the one that is on."""

    if order_id is not None and every:
        raise click.UsageError("give an ID or --all, not both")

    async def stop(store: "OrderStore") -> list[str]:
        now = await store.read()
        pending = [order.id for order in now.orders if order.scenario.end_ms > now.now_ms]
        known = ", ".join(pending) or "none"
        if order_id is not None and order_id not in pending:
            raise RequestError(f"{order_id}: is not on; these are: {known}")
        if order_id is None and not every and len(pending) != 1:
            raise RequestError(f"give the ID of one that is on, or --all; these are: {known}")
        chosen = pending if order_id is None else [order_id]
        await store.withdraw(chosen)
        if not await _until(store, lambda now: not set(chosen) & _obeyed(now)):
            _fail(f"no simulator stopped it within {OBEYED_WITHIN_S:.0f} s; see its log")
        return chosen

    settings, _ = _simulators(ctx, url)
    for stopped in _with_store(settings, stop):
        click.echo(f"{stopped}: stopped")


def _simulators(ctx: click.Context, url: str | None) -> "tuple[Settings, RunningStack | None]":
    """Settings under which the simulators are found, and the `tokenpulse up` if it is one's."""
    from streams.config.sections import Redis
    from tokenpulse.local.discovery import running_stacks

    settings = load_settings(ctx.obj, {"redis": {"url": url}} if url else None)
    if "url" in settings.redis.model_fields_set:
        return settings, None
    stacks = running_stacks()
    if not stacks:
        raise ConfigError(
            "no `tokenpulse up` of this user runs on this machine, and redis.url is not set; "
            "start one with `make up`, or give --url the Redis of the simulators"
        )
    newest, *others = stacks
    if others:
        click.echo(
            f"{len(stacks)} stacks run; this goes to the newest, whose board is "
            f"{newest.board_url}; for another give --url "
            + " or ".join(f"{one.redis_url} (board {one.board_url})" for one in others),
            err=True,
        )
    kafka = settings.kafka.model_copy(update={"group": newest.group, "topic": newest.topic})
    found = {"kafka": kafka, "redis": Redis(url=newest.redis_url)}
    return settings.model_copy(update=found), newest


def _with_store(settings: Settings, call: "Callable[[OrderStore], Awaitable[T]]") -> T:
    from streams.simulator.scenario_store import OrderStore
    from streams.store.redis import connected

    async def ask() -> T:
        client = connected(settings.redis)
        try:
            return await call(OrderStore(client, settings))
        finally:
            await client.aclose()

    return asyncio.run(ask())


async def _until(store: "OrderStore", is_so: "Callable[[Reading], bool]") -> bool:
    deadline_s = time.monotonic() + OBEYED_WITHIN_S
    while time.monotonic() < deadline_s:
        if is_so(await store.read()):
            return True
        await asyncio.sleep(POLL_S)
    return False


def _obeyed(reading: "Reading") -> set[str]:
    alive = (one for one in reading.simulators if one.is_alive(reading.now_ms))
    return {order_id for one in alive for order_id in one.obeyed}


def _when(scenario: "Scenario", now_ms: int) -> str:
    from streams.query.report import rfc3339_ms

    begins = f"from {rfc3339_ms(scenario.start_ms)} " if scenario.start_ms > now_ms else ""
    return f"{begins}until {rfc3339_ms(scenario.end_ms)}"


def _as_options(kind: str, finding: str) -> str:
    """A timeline's findings with our options in the place of its keys."""
    lines = []
    for line in finding.splitlines():
        key, _, found = line.removeprefix(f"{kind}: scenarios[0]").partition(": ")
        found = found.replace("where: {customer_id: ...}", "--customer acct-0001")
        lines.append(f"{_option(key.removeprefix('.')) if key else kind}: {found}")
    return "\n".join(lines)


def _fail(line: str) -> NoReturn:
    click.echo(f"tokenpulse: {line}", err=True)
    sys.exit(1)
