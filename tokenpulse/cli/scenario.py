"""`tokenpulse scenario`: faults in running simulated traffic.

The command writes a request to Redis, and the simulators apply and acknowledge it.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import click

from exporters.formatting import span
from streams.config.settings import Settings, load_settings
from streams.errors import ConfigError, RequestError
from streams.query.instants import rfc3339_ms
from streams.query.partitions import user_name
from streams.simulator.profile import Profile
from streams.simulator.scenario_requests import describe, format_parameter, new_request
from streams.simulator.scenario_store import Reading, ScenarioStore
from streams.simulator.scenarios import KINDS, Scenario, TimelineError
from streams.simulator.timeline import Timeline
from tokenpulse.local.client_settings import newest_stack, settings_of_stack
from tokenpulse.local.discovery import RunningStack, running_stacks
from tokenpulse.redis_call import run_with_redis

T = TypeVar("T")

ACKNOWLEDGED_WITHIN_S = 5.0
POLL_S = 0.1
FILTERS = {  # option -> field of an event
    "model": "model",
    "region": "region",
    "channel": "channel",
    "tier": "service_tier",
    "customer": "customer_id",
}
# Errors name the fields of a scenario; operators know the options.
OPTION_OF = {
    "start": "--in",
    "duration": "--for",
    **{f"where.{field}": f"--{option}" for option, field in FILTERS.items()},
}
URL = click.option(
    "--url", help="Redis of the simulators; default: redis.url if set, else `tokenpulse up`'s."
)


class _Kinds(click.Group):
    """Accepts the name of a kind with hyphens too."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name."""
        return super().get_command(ctx, cmd_name.replace("-", "_"))


@click.group(cls=_Kinds)
def scenario() -> None:
    """Cause faults in running simulated traffic.

    The traffic is that of `tokenpulse up` and `tokenpulse simulate`.
    """


def _kind_command(kind: str, model: type[Scenario]) -> click.Command:
    """Build the command that starts one kind of scenario, with its parameters as options."""

    def start(ctx: click.Context, /, url: str | None, **options: Any) -> None:
        # Options that were not given keep the defaults of the kind.
        given = {name: value for name, value in options.items() if value is not None}
        _request(ctx, url, kind, given)

    command = click.pass_context(start)
    # Reversed, as each decorator goes before those applied earlier.
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
    return click.command(kind, help=" ".join((model.__doc__ or "").split()))(command)


def _parameters(model: type[Scenario]) -> list[Any]:
    return [
        click.option(
            _option(name),
            name,
            # A span stays text here: the scenario parses it as in a timeline's file.
            type=str if isinstance(field.default, timedelta) else float,
            help=f"Default: {format_parameter(field.default)}.",
        )
        for name, field in model.model_fields.items()
        if name not in Scenario.model_fields
    ]


def _option(name: str) -> str:
    return OPTION_OF.get(name, f"--{name.replace('_', '-')}")


def _request(ctx: click.Context, url: str | None, kind: str, options: dict[str, Any]) -> None:
    """Request a scenario and wait until a simulator acknowledges it."""
    where = {field: options.pop(name) for name, field in FILTERS.items() if name in options}
    entry = {"kind": kind, "start": options.pop("in_"), "duration": options.pop("for_")}
    entry |= {"where": where, **options}
    # Checked first, so that a mistake is named before a request is written.
    try:
        Timeline(source=kind).with_entry(entry).check_names(Profile.default().names())
    except TimelineError as error:
        raise TimelineError(_with_option_names(kind, str(error))) from error

    async def add(store: ScenarioStore) -> str | None:
        reading = await store.read()
        request = new_request(entry, reading.now_ms, user_name())
        await store.add(request, reading)
        click.echo(
            f"{request.id}: {describe(request.scenario)}, "
            f"{_period(request.scenario, reading.now_ms)}"
        )
        if await _until(store, lambda reading: request.id in _active_ids(reading)):
            return request.id
        # A later simulator must not apply a request that the operator was told has failed.
        await store.remove([request.id])
        return None

    settings, stack = _find_simulators(ctx, url, is_change=True)
    request_id = _with_store(settings, add)
    if request_id is None:
        _fail(
            f"no simulator acknowledged it within {ACKNOWLEDGED_WITHIN_S:.0f} s; it is removed: "
            "start a simulator"
        )
    if stack is not None:
        click.echo(f"  watch it  {stack.board_url}")
    at = f" --url {url}" if url else ""
    click.echo(f"  end it    tokenpulse scenario stop {request_id}{at}")


@scenario.command("list")
@URL
@click.pass_context
def scenario_list(ctx: click.Context, url: str | None) -> None:
    """Show the active and planned scenarios, and when they end."""

    async def show(store: ScenarioStore) -> None:
        reading = await store.read()
        for problem in reading.unreadable:
            click.echo(f"tokenpulse: {problem}", err=True)
        pending = reading.pending()
        for request in sorted(pending, key=lambda request: request.scenario.start_ms):
            period = _period(request.scenario, reading.now_ms)
            if request.id not in _active_ids(reading):
                period += ", not acknowledged by a simulator"
            click.echo(f"{request.id}: {describe(request.scenario)}, {period}, by {request.by}")
        if not pending:
            click.echo("no scenario is active")
        if not any(simulator.is_alive(reading.now_ms) for simulator in reading.simulators):
            click.echo("no simulator runs", err=True)

    settings, _ = _find_simulators(ctx, url)
    _with_store(settings, show)


@scenario.command("stop")
@click.argument("request_id", required=False, metavar="[ID]")
@click.option("--all", "all_", is_flag=True, help="All active and planned scenarios.")
@URL
@click.pass_context
def scenario_stop(ctx: click.Context, request_id: str | None, all_: bool, url: str | None) -> None:
    """End a scenario; without ID the only active one."""
    if request_id is not None and all_:
        raise click.UsageError("give an ID or --all, not both")

    async def stop(store: ScenarioStore) -> list[str]:
        pending = [request.id for request in (await store.read()).pending()]
        known = ", ".join(pending) or "none"
        if request_id is not None and request_id not in pending:
            raise RequestError(f"{request_id}: is not active; active are: {known}")
        # Ending the wrong one of several would hide a fault that is being watched.
        if request_id is None and not all_ and len(pending) != 1:
            raise RequestError(f"give the ID of an active one, or --all; active are: {known}")
        chosen = pending if request_id is None else [request_id]
        await store.remove(chosen)
        if not await _until(store, lambda reading: not set(chosen) & _active_ids(reading)):
            _fail(f"no simulator stopped it within {ACKNOWLEDGED_WITHIN_S:.0f} s; see its log")
        return chosen

    settings, _ = _find_simulators(ctx, url, is_change=True)
    for stopped in _with_store(settings, stop):
        click.echo(f"{stopped}: stopped")


for _kind, _model in KINDS.items():
    scenario.add_command(_kind_command(_kind, _model), _kind)


def _find_simulators(
    ctx: click.Context, url: str | None, is_change: bool = False
) -> tuple[Settings, RunningStack | None]:
    """Return the settings to reach the simulators, and the `tokenpulse up` they belong to.

    `is_change`: the command changes the traffic, so it must not guess which of several is meant.
    """
    settings = load_settings(ctx.obj, {"redis": {"url": url}} if url else None)
    # A configured Redis wins over stacks on this machine.
    if "url" in settings.redis.model_fields_set:
        stacks = (stack for stack in running_stacks() if stack.redis_url == settings.redis.url)
        return settings, next(stacks, None)
    if is_change and len(stacks_here := running_stacks()) > 1:
        addresses = [f"--url {stack.redis_url} (board {stack.board_url})" for stack in stacks_here]
        raise RequestError(f"{len(addresses)} stacks run; give {' or '.join(addresses)}")
    stack = newest_stack("give --url")
    if stack is None:
        raise ConfigError(
            "no `tokenpulse up` of this user runs on this machine, and redis.url is not set; "
            "start one with `make up`, or give --url the Redis of the simulators"
        )
    return settings_of_stack(stack, ctx.obj, settings), stack


def _with_store(settings: Settings, call: Callable[[ScenarioStore], Awaitable[T]]) -> T:
    return run_with_redis(settings, lambda client: call(ScenarioStore(client, settings)))


async def _until(store: ScenarioStore, condition: Callable[[Reading], bool]) -> bool:
    """Wait until the condition holds; False if it does not in time."""
    deadline_s = time.monotonic() + ACKNOWLEDGED_WITHIN_S
    while time.monotonic() < deadline_s:
        if condition(await store.read()):
            return True
        await asyncio.sleep(POLL_S)
    return False


def _active_ids(reading: Reading) -> set[str]:
    """Return the ids of the requests that a live simulator applies or will apply."""
    # A simulator that died applies no request any more.
    alive = (simulator for simulator in reading.simulators if simulator.is_alive(reading.now_ms))
    return {request_id for simulator in alive for request_id in simulator.active_ids}


def _period(scenario: Scenario, now_ms: int) -> str:
    begin = f"from {rfc3339_ms(scenario.start_ms)} " if scenario.start_ms > now_ms else ""
    left = span((scenario.end_ms - now_ms) / 1_000)
    return f"{begin}until {rfc3339_ms(scenario.end_ms)} (ends in {left})"


def _with_option_names(kind: str, problems: str) -> str:
    """Replace the keys of a timeline file in error messages by the options of the command."""
    lines = []
    for line in problems.splitlines():
        # Errors name the entry as the first one of a timeline.
        key, _, text = line.removeprefix(f"{kind}: scenarios[0]").partition(": ")
        text = text.replace("where: {customer_id: ...}", "--customer acct-0001")
        lines.append(f"{_option(key.removeprefix('.')) if key else kind}: {text}")
    return "\n".join(lines)


def _fail(line: str) -> NoReturn:
    click.echo(f"tokenpulse: {line}", err=True)
    sys.exit(1)
