"""The settings of the exporter: address, windows, policies, reference files. Pure."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field

from streams.config.base import Section
from streams.config.connections import Connections

WindowName = Literal["1m", "5m", "30m", "1h", "6h", "24h", "3d", "30d"]


def _known_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
    # ZoneInfo raises ValueError for a path, and OSError for the name of a folder.
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("unknown time zone; use an IANA name such as Europe/Berlin") from error
    return zone


def _host_name(name: str) -> str:
    is_address = True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        is_address = False
    # A Host header is compared without its port, so such a name would never match.
    if not is_address and any(mark in name for mark in ":[]/"):
        raise ValueError("give the name or the address alone, without scheme, port and brackets")
    return name


class Exporter(Section):
    """The exporter: its address, windows, policies and reference files."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        9464, ge=0, le=65_535, description="Port to listen on; 0 chooses a free port."
    )
    allowed_hosts: tuple[Annotated[str, AfterValidator(_host_name)], ...] = Field(
        (),
        description="Names by which browsers and Prometheus reach the exporter, such as that of a "
        "reverse proxy or a container; `.example.com` allows all names below, `*` any. Always "
        "allowed: loopback names, the address of `host`, and every IP address if `host` is "
        "`0.0.0.0` or `::`. Other names are answered with 403 (security.md).",
    )
    connections: Connections = Connections()
    max_streams_per_client: int = Field(
        100,
        ge=1,
        le=500,
        description="Most open live boards of one client, as for `connections.max_per_client`; of "
        "all clients together there are 500 at most.",
    )
    refresh_interval_s: float = Field(
        1, ge=0.1, le=60, description="Time between two reads of the state in Redis."
    )
    stale_after_s: float = Field(
        15,
        gt=0,
        description="`/readyz` answers 503 if the newest worker heartbeat, or the last read "
        "of the state, is older than this.",
    )
    time_zone: Annotated[str, AfterValidator(_known_zone)] = Field(
        "UTC", description="IANA time zone of the calendar day and month."
    )
    windows: tuple[WindowName, ...] = Field(
        ("1m", "5m", "30m", "1h", "6h", "24h", "3d", "30d"),
        description="Rolling windows for the fleet, and per model, region, channel and "
        "service tier.",
    )
    series_windows: tuple[WindowName, ...] = Field(
        ("5m",), description="Rolling windows per (model, region, channel, tier)."
    )
    customer_windows: tuple[WindowName, ...] = Field(
        ("1h", "24h"), description="Rolling windows for the customers with the most requests."
    )
    customers_top: int = Field(
        50,
        ge=0,
        le=1_000,
        description="Number of customers with the most requests that get their own metrics; "
        "0 for none.",
    )
    max_samples: int = Field(
        100_000,
        ge=5_000,
        description="Most samples of `/metrics`. A page that would have more leaves out the names "
        "with the smallest shares of the requests, and `tokenpulse_exporter_dropped_samples` says "
        "how many samples they have at least. Keep it below `sample_limit` of the scrape job, "
        "beyond which Prometheus rejects the whole page.",
    )
    policies: tuple[str, ...] = Field(
        ("default",),
        description="Policies in force: paths of files, or names of shipped policies "
        "(policies.md). Workers read the names in their scopes, so give them the same policies.",
    )
    web_config_file: Path | None = Field(
        None,
        description="TLS and users of all pages, in the format of Prometheus' web "
        "configuration file (security.md).",
    )
    customer_directory: Path | None = Field(
        None,
        description="YAML file with a list of customers. Keys: `id`, `name`, `segment`; "
        "optional: `contract`, `monthly_commitment_usd`, `renewal`.",
    )
    price_book: str | None = Field(
        None,
        description="Prices for cache dollars: path of a file, or name of a shipped price "
        "book (prices.md).",
    )
    runbooks_url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Address of your copy of `docs/runbooks`, which the incidents on the live "
        "board link to. Without it they link to the exporter's own pages, `/runbooks/ALERT`.",
    )
    trace_url: str | None = Field(
        None,
        pattern=r"^https?://\S*\{trace_id\}\S*$",
        description="Address of a trace in your tracing system, with `{trace_id}` in it. The "
        "slowest requests on the pages of models and regions link to it.",
    )
    status_page: Path | None = Field(
        None,
        description="YAML file with the components of the public status page (status.md). Without "
        "it there is no such page.",
    )
    status_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port of the status page, which needs no login there; 0 chooses a free port. "
        "Default: the page is at `/status` of the exporter's port, with the login of that port.",
    )
    provider_name: str = Field(
        "tokenpulse",
        description="`gen_ai.provider.name` on the histograms with OpenTelemetry names.",
    )
    operation_name: str = Field(
        "chat", description="`gen_ai.operation.name` on the histograms with OpenTelemetry names."
    )
