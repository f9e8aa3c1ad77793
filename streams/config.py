"""Settings: one typed object, from defaults, a YAML file and the environment.

Later wins: defaults, then the YAML file (`--config` or TOKENPULSE_CONFIG), then variables such as
TOKENPULSE_KAFKA__TOPIC, where two underscores step into a section. A secret may also be given as
a file (`..._file`), so that it never stands in a command line or in a process listing.

docs/configuration.md is generated from the descriptions below (`make docs`).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

ENV_PREFIX = "TOKENPULSE_"


class ConfigError(ValueError):
    """A setting that cannot be used: the message names its path, the value found and the cure."""


class Section(BaseModel):
    """One group of settings; an unknown key is an error, as it is nearly always a typing error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Kafka(Section):
    """Where the events come from."""

    bootstrap: str = Field("127.0.0.1:9092", description="Brokers, `host:port`, comma-separated.")
    topic: str = Field("inference.requests", description="Topic with one event a record.")
    dlq_topic: str = Field(
        "inference.requests.dlq", description="Topic that takes refused records, byte for byte."
    )
    group: str = Field("tokenpulse", description="Consumer group; also names the state in Redis.")
    partitions: int = Field(8, ge=1, description="Partitions that `topics create` makes.")
    replication: int = Field(1, ge=1, description="Replicas that `topics create` asks for.")
    retention_h: float = Field(
        24 * 40,
        gt=0,
        description="Hours of events `topics create` lets Kafka keep: the longest window, plus the "
        "longest outage you want to be able to rebuild from.",
    )
    max_message_bytes: int = Field(
        1_048_576, ge=1024, description="Largest record batch, for `topics create`."
    )
    isolation_level: Literal["read_committed", "read_uncommitted"] = Field(
        "read_committed", description="Whether records of aborted transactions are skipped."
    )
    fetch_max_partition_bytes: int = Field(
        1_048_576, ge=65_536, description="Most bytes fetched from one partition at a time."
    )
    session_timeout_s: float = Field(
        30, ge=1, description="Silence after which the broker gives a worker's partitions away."
    )
    heartbeat_interval_s: float = Field(3, gt=0, description="How often a worker says it lives.")


class Redis(Section):
    """Where the state is kept."""

    url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="`redis://`, `rediss://` (TLS) or `unix://`, with user and password if any.",
        json_schema_extra={"secret": True},
    )
    timeout_s: float = Field(2, gt=0, le=30, description="Wait for one answer, and for a connect.")


class Limits(Section):
    """Distinct values kept per partition; further ones are counted as `__other__`."""

    models: int = Field(200, ge=1, le=1_000, description="Distinct models.")
    regions: int = Field(100, ge=1, description="Distinct regions.")
    channels: int = Field(50, ge=1, description="Distinct channels.")
    service_tiers: int = Field(20, ge=1, description="Distinct service tiers.")
    series: int = Field(
        2_000, ge=1, le=100_000, description="Distinct (model, region, channel, tier)."
    )
    customers: int = Field(20_000, ge=1, le=200_000, description="Distinct customers.")


Targets = Annotated[tuple[Annotated[float, Field(gt=0, le=86_400)], ...], Field(max_length=16)]


class Worker(Section):
    """How events become state."""

    flush_interval_s: float = Field(
        1, ge=0.05, le=60, description="Time between two checkpoints of a partition."
    )
    flush_max_events: int = Field(
        200_000, ge=1, description="Events after which a checkpoint is written at once."
    )
    backlog_max_events: int = Field(
        1_000_000, ge=1, description="Events not yet in Redis at which consuming pauses."
    )
    resident_max_mb: int = Field(
        64, ge=8, description="Memory for slices that are already in Redis, over all partitions."
    )
    max_event_bytes: int = Field(
        262_144, ge=256, description="Larger records are refused (`too_large`)."
    )
    future_tolerance_s: int = Field(
        300,
        ge=0,
        description="How far `ended_at` may lie after the record's Kafka timestamp before it is "
        "refused (`from_the_future`).",
    )
    lateness_s: int = Field(
        30,
        ge=0,
        le=600,
        description="How long after its end a slice waits before it is merged into the next "
        "coarser one. Later events still count; they cost a little more.",
    )
    customer_key: str | None = Field(
        None,
        description="Secret of the HMAC that replaces customer ids before they enter the state.",
        json_schema_extra={"secret": True},
    )
    customer_key_file: Path | None = Field(None, description="File to read that secret from.")
    ttft_targets_s: Targets = Field(
        (0.3,), description="TTFT thresholds that are counted exactly, as good of total."
    )
    tpot_targets_s: Targets = Field(
        (0.05,), description="TPOT thresholds that are counted exactly."
    )
    duration_targets_s: Targets = Field(
        (), description="Duration thresholds that are counted exactly."
    )
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.customer_key is not None and self.customer_key_file is not None:
            raise ValueError("give customer_key or customer_key_file, not both")
        return self

    def customer_secret(self) -> bytes:
        """The HMAC key.

        Raises ConfigError where none is configured: a default key would be no secret.
        """
        if self.customer_key_file is not None:
            try:
                secret = self.customer_key_file.read_bytes().strip()
            except OSError as error:
                raise ConfigError(
                    f"worker.customer_key_file: cannot read {self.customer_key_file}: "
                    f"{error.strerror}; make it readable for this user"
                ) from error
        else:
            secret = (self.customer_key or "").encode()
        if len(secret) < 16:
            raise ConfigError(
                "worker.customer_key: customer ids are stored only as a keyed hash; set "
                f"{ENV_PREFIX}WORKER__CUSTOMER_KEY or worker.customer_key_file to a secret of at "
                "least 16 bytes (for example from `openssl rand -hex 32`)"
            )
        return secret


WindowName = Literal["1m", "5m", "30m", "1h", "6h", "24h", "3d", "30d"]


def _known_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("unknown time zone; use an IANA name such as Europe/Berlin") from error
    return zone


class Exporter(Section):
    """How state becomes numbers to look at."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(9464, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    refresh_interval_s: float = Field(
        1, ge=0.1, le=60, description="How often the windows are read from Redis again."
    )
    stale_after_s: float = Field(
        15, gt=0, description="Age of the newest sign of life at which `/readyz` turns to 503."
    )
    time_zone: Annotated[str, AfterValidator(_known_zone)] = Field(
        "UTC", description="Zone of the calendar day and month, an IANA name."
    )
    windows: tuple[WindowName, ...] = Field(
        ("1m", "5m", "30m", "1h", "6h", "24h", "3d", "30d"),
        description="Rolling windows for fleet, model, region, channel and tier.",
    )
    series_windows: tuple[WindowName, ...] = Field(
        ("5m",), description="Rolling windows for every single (model, region, channel, tier)."
    )
    customer_windows: tuple[WindowName, ...] = Field(
        ("1h", "24h"), description="Rolling windows for the customers with the most requests."
    )
    customers_top: int = Field(
        50, ge=0, le=1_000, description="Customers that get series of their own; 0 for none."
    )
    customer_directory: Path | None = Field(
        None, description="YAML file: id, name, segment, contract, monthly_commitment_usd."
    )
    provider_name: str = Field(
        "tokenpulse", description="`gen_ai.provider.name` on the OpenTelemetry-named histograms."
    )
    operation_name: str = Field(
        "chat", description="`gen_ai.operation.name` on the OpenTelemetry-named histograms."
    )


class Local(Section):
    """The embedded stack of `tokenpulse up` and `tokenpulse replay`."""

    kafka_port: int = Field(0, ge=0, le=65_535, description="Broker port; 0 takes a free one.")
    redis_port: int = Field(0, ge=0, le=65_535, description="Redis port; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=16, description="Worker processes.")
    events_per_s: float = Field(
        50, gt=0, le=20_000, description="Mean rate of the simulated traffic."
    )


class Settings(BaseSettings):
    """Everything that can be set. Read once at start, never changed afterwards."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    worker: Worker = Worker()
    exporter: Exporter = Exporter()
    local: Local = Local()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Overrides of the command line win over the environment, that over the file."""
        path = settings_cls.model_config.get("yaml_file")
        sources = [init_settings, env_settings]
        if path is not None:
            sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=path))
        return tuple(sources)


def load_settings(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings.

    `path`: a YAML file; without it the one named by TOKENPULSE_CONFIG, if any. `overrides`: nested
    mapping of what the command line says. Raises ConfigError with one line per finding.
    """
    if path is None and (named := os.environ.get(ENV_PREFIX + "CONFIG")):
        path = Path(named)
    if path is not None and not path.is_file():
        raise ConfigError(f"{path}: no such file; give --config the path of a YAML file")
    reading = type("Settings", (Settings,), {"model_config": {"yaml_file": path}})
    try:
        settings: Settings = reading(**(overrides or {}))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(_findings(error, path))) from error
    return settings


def _findings(error: ValidationError, path: Path | None) -> list[str]:
    """One line per wrong setting: where, what was found, what to write instead."""
    origin = f"{path}: " if path else ""
    lines = []
    for finding in error.errors():
        where = ".".join(str(part) for part in finding["loc"])
        if finding["type"] == "extra_forbidden":
            cure = "no such setting; docs/configuration.md lists them all"
        else:
            cure = finding["msg"].removeprefix("Value error, ")
        shown = "(hidden)" if where in _SECRETS else repr(finding["input"])
        lines.append(f"{origin}{where}: got {shown}; {cure}")
    return lines


def _secret_paths() -> frozenset[str]:
    found = set()
    for name, section in Settings.model_fields.items():
        if not isinstance(section.annotation, type) or not issubclass(section.annotation, Section):
            continue
        for key, field in section.annotation.model_fields.items():
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("secret"):
                found.add(f"{name}.{key}")
    return frozenset(found)


_SECRETS = _secret_paths()


def shown(settings: Settings) -> dict[str, Any]:
    """The settings as plain data, secrets replaced."""
    plain = settings.model_dump(mode="json")
    for path in _SECRETS:
        section, key = path.split(".")
        if plain[section][key] is not None:
            plain[section][key] = _masked(plain[section][key])
    return plain


def _masked(secret: str) -> str:
    """Nothing of a key; of a URL all but the password."""
    if "://" not in secret:
        return "(set)"
    scheme, rest = secret.split("://", 1)
    return f"{scheme}://(credentials)@{rest.rsplit('@', 1)[1]}" if "@" in rest else secret


def document() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Generated from `streams/config.py` by `make docs`.",
        "",
        "Settings come from, later wins: the defaults below, a YAML file (`tokenpulse --config",
        "FILE ...` or `TOKENPULSE_CONFIG=FILE`), environment variables. A variable is",
        "`TOKENPULSE_`, the section, two underscores, the setting; lists and numbers as JSON:",
        "",
        "```yaml",
        "kafka:",
        "  bootstrap: kafka-1:9092,kafka-2:9092",
        "worker:",
        "  customer_key_file: /run/secrets/customer_key",
        "```",
        "",
        "```sh",
        "TOKENPULSE_KAFKA__BOOTSTRAP=kafka-1:9092 TOKENPULSE_WORKER__TTFT_TARGETS_S='[0.3, 1]'",
        "```",
        "",
        "`tokenpulse config check` shows what is in force and asks Kafka and Redis.",
    ]
    for name, field in Settings.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, Section)
        lines += ["", f"## {name}", "", (section.__doc__ or "").strip(), ""]
        lines += ["| setting | default | meaning |", "|---|---|---|"]
        lines += _rows(section, "")
    return "\n".join(lines) + "\n"


def _rows(section: type[Section], prefix: str) -> list[str]:
    rows = []
    for key, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            rows += _rows(field.annotation, f"{prefix}{key}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown_default = "" if default is None else f"`{_plain(default)}`"
        rows.append(f"| `{prefix}{key}` | {shown_default} | {field.description} |")
    return rows


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(str(part) for part in value) + "]"
    return str(value)
