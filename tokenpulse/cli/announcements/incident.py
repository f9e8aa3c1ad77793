"""`tokenpulse incident`: open, update and close the incidents of the public status page."""

import json
import time
import uuid
from dataclasses import asdict, replace

import click
import redis.asyncio as aioredis

from exporters.formatting import enumeration, minute
from exporters.status_page.components import StatusPage, load_status_page
from exporters.status_page.incidents import (
    IMPACTS,
    RESOLVED,
    STAGES,
    Impact,
    IncidentUpdate,
    PublicIncident,
    Stage,
)
from exporters.status_page.store import IncidentStore
from streams.config.settings import Settings
from streams.errors import ConfigError, RequestError
from tokenpulse.local.client_settings import load_client_settings
from tokenpulse.option_types import Words, terminal_user
from tokenpulse.redis_call import run_with_redis

OPEN_STAGES = [stage for stage in STAGES if stage != RESOLVED]
MESSAGE = click.option(
    "--message", type=Words(), required=True, help="Text for the readers of the page."
)
AUTHOR = click.option(
    "--author",
    type=Words(),
    default=terminal_user,
    help="Author, for the audit; not on the page. Default: the user of the terminal.",
)
STAGE = click.option("--status", "stage", type=click.Choice(OPEN_STAGES), help="New status.")


@click.group()
def incident() -> None:
    """Write incidents on the public status page (docs/status.md)."""


@incident.command("open")
@click.argument("name", type=Words())
@click.option("--impact", type=click.Choice(IMPACTS), required=True, help="How bad it is.")
@click.option(
    "--component",
    "components",
    multiple=True,
    required=True,
    help="A component of the page, by name; may be given again.",
)
@STAGE
@MESSAGE
@AUTHOR
@click.pass_context
def incident_open(
    ctx: click.Context,
    name: str,
    impact: Impact,
    components: tuple[str, ...],
    stage: Stage | None,
    message: str,
    author: str,
) -> None:
    """Open an incident, and print its id."""
    settings = load_client_settings(ctx.obj)
    page = _page(settings)
    update = _update(stage or "investigating", message, author)
    slugs = tuple(_slug(page, component) for component in components)
    try:
        opened = PublicIncident(f"i-{uuid.uuid4().hex[:12]}", name, impact, slugs, (update,))
    except ValueError as error:
        raise ConfigError(f"incident: {error}") from error
    run_with_redis(settings, lambda client: _store(settings, client).put(opened, update))
    click.echo(f"{opened.id}: {_describe(opened)}")


@incident.command("update")
@click.argument("incident_id", metavar="ID")
@STAGE
@click.option("--impact", type=click.Choice(IMPACTS), help="New impact; default: as before.")
@MESSAGE
@AUTHOR
@click.pass_context
def incident_update(
    ctx: click.Context,
    incident_id: str,
    stage: Stage | None,
    impact: Impact | None,
    message: str,
    author: str,
) -> None:
    """Add a message to an open incident."""
    _append(load_client_settings(ctx.obj), incident_id, stage, impact, message, author)


@incident.command("close")
@click.argument("incident_id", metavar="ID")
@MESSAGE
@AUTHOR
@click.pass_context
def incident_close(ctx: click.Context, incident_id: str, message: str, author: str) -> None:
    """Close an incident with a last message; it stays on the page for 15 days."""
    _append(load_client_settings(ctx.obj), incident_id, RESOLVED, None, message, author)


@incident.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with all updates and authors.")
@click.pass_context
def incident_list(ctx: click.Context, as_json: bool) -> None:
    """Show all incidents, the newest first."""
    settings = load_client_settings(ctx.obj)
    book = run_with_redis(settings, lambda client: _store(settings, client).read())
    if as_json:
        click.echo(json.dumps([asdict(found) for found in book.incidents], indent=1))
        return
    for found in book.incidents:
        click.echo(f"{found.id}: {_describe(found)}")


def _append(
    settings: Settings,
    incident_id: str,
    stage: Stage | None,
    impact: Impact | None,
    message: str,
    author: str,
) -> None:
    """Add an update to an open incident, and print it. Raises RequestError if there is none."""

    async def append(client: "aioredis.Redis") -> PublicIncident:
        store = _store(settings, client)
        known = {found.id: found for found in (await store.read()).incidents}
        if incident_id not in known:
            raise RequestError(f"{incident_id}: no such incident; see `tokenpulse incident list`")
        before = known[incident_id]
        if before.resolved_s is not None:
            raise RequestError(
                f"{incident_id}: it was closed at {minute(before.resolved_s)} UTC; open another"
            )
        update = _update(stage or before.stage, message, author, after_s=before.updated_s)
        after = replace(before, impact=impact or before.impact, updates=(*before.updates, update))
        await store.put(after, update)
        return after

    click.echo(f"{incident_id}: {_describe(run_with_redis(settings, append))}")


def _update(stage: Stage, message: str, author: str, after_s: int = 0) -> IncidentUpdate:
    """Return an update of now, later than `after_s`. Raises ConfigError."""
    # Updates are in the order of their times, also if two follow within a second.
    at_s = max(int(time.time()), after_s + 1)
    try:
        return IncidentUpdate(uuid.uuid4().hex[:12], at_s, stage, message, author)
    except ValueError as error:
        raise ConfigError(f"incident: {error}") from error


def _page(settings: Settings) -> StatusPage:
    path = settings.exporter.status_page
    if path is None:
        raise ConfigError(
            "exporter.status_page: not set, so there is no status page; give the path of its file "
            "(docs/status.md)"
        )
    return load_status_page(path)


def _slug(page: StatusPage, name: str) -> str:
    component = page.component(name)
    if component is None:
        known = enumeration([part.name for part in page.components], most=20)
        raise ConfigError(f"--component: got {name!r}; choose from {known}")
    return component.slug


def _describe(found: PublicIncident) -> str:
    components = ", ".join(found.components)
    since = f"{found.stage} since {minute(found.updated_s)} UTC"
    return f"{found.name}; {found.impact}; {components}; {since}"


def _store(settings: Settings, client: "aioredis.Redis") -> IncidentStore:
    return IncidentStore(client, settings.kafka.group, settings.kafka.topic)
