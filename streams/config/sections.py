"""The settings, section by section: names, defaults, ranges and what each one means.

Pure, but for the reading of secrets from files. How they are read and shown: settings.py.
"""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_serializer,
    model_validator,
)

from streams.errors import ConfigError

ENV_PREFIX = "TOKENPULSE_"


class Section(BaseModel):
    """One group of settings; an unknown key is an error, as it is nearly always a typing error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_secret(file: Path, setting: str) -> bytes:
    """Return the content of a secret's file, without the white space around it.

    `setting`: the path of the setting, for the ConfigError if the file cannot be read.
    """
    try:
        return file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"{setting}: cannot read {file}: {error.strerror}; make it readable for this user"
        ) from error


def _password(given: SecretStr | None, file: Path | None, section: str) -> str | None:
    if file is None:
        return None if given is None else given.get_secret_value()
    secret = read_secret(file, f"{section}.password_file")
    if not secret:
        raise ConfigError(f"{section}.password_file: {file} is empty; write the password into it")
    try:
        return secret.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{section}.password_file: {file} is not text in UTF-8") from error


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
    metadata_max_age_s: float = Field(
        60,
        ge=1,
        le=3_600,
        description="How often topics and leaders are looked up again: partitions that were added "
        "are seen after at most this.",
    )
    archive_topic: str = Field(
        "tokenpulse.state",
        description="Compacted topic that takes the state every `worker.archive_interval_s`.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to; `SASL_` with a login, `SSL` with TLS."
    )
    sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="How the login is proven."
    )
    username: str | None = Field(None, description="User of the login.")
    password: SecretStr | None = Field(None, description="Password of the login.")
    password_file: Path | None = Field(None, description="File to read that password from.")
    allow_sasl_without_tls: bool = Field(
        False,
        description="Whether `SASL_PLAINTEXT` is let through, which shows the login and every "
        "event to whoever listens.",
    )
    ssl_ca_file: Path | None = Field(
        None, description="Authorities that sign the brokers' certificates; default the system's."
    )
    ssl_cert_file: Path | None = Field(None, description="Our certificate, if brokers ask for one.")
    ssl_key_file: Path | None = Field(None, description="Its key, without a passphrase.")

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        login = {"username": self.username, "password": self.password or self.password_file}
        if self.password is not None and self.password_file is not None:
            raise ValueError("give password or password_file, not both")
        if self.security_protocol.startswith("SASL_"):
            for name, value in login.items():
                if not value:
                    raise ValueError(f"{self.security_protocol} needs a {name}; set it")
        elif any(login.values()):
            raise ValueError(
                f"a login is given, but security_protocol is {self.security_protocol}, which sends "
                "none; set SASL_SSL, or leave username and password out"
            )
        if self.security_protocol == "SASL_PLAINTEXT" and not self.allow_sasl_without_tls:
            raise ValueError(
                "security_protocol SASL_PLAINTEXT shows the login to whoever listens; set "
                "SASL_SSL, or allow_sasl_without_tls: true"
            )
        _check_certificate(self, "SSL" in self.security_protocol, "security_protocol SSL, SASL_SSL")
        return self

    def login_password(self) -> str | None:
        """The password, from wherever it was given; ConfigError where its file is unreadable."""
        return _password(self.password, self.password_file, "kafka")


class Redis(Section):
    """Where the state is kept."""

    url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="`redis://`, `rediss://` (TLS) or `unix://`, with user and password if any.",
        repr=False,
    )
    timeout_s: float = Field(2, gt=0, le=30, description="Wait for one answer, and for a connect.")
    username: str | None = Field(None, description="User, instead of one in the URL.")
    password: SecretStr | None = Field(None, description="Password, instead of one in the URL.")
    password_file: Path | None = Field(None, description="File to read that password from.")
    ssl_ca_file: Path | None = Field(
        None, description="Authorities that sign the server's certificate; default the system's."
    )
    ssl_cert_file: Path | None = Field(None, description="Our certificate, if Redis asks for one.")
    ssl_key_file: Path | None = Field(None, description="Its key, without a passphrase.")

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.password is not None and self.password_file is not None:
            raise ValueError("give password or password_file, not both")
        own = self.username or self.password or self.password_file
        if own and "@" in urlsplit(self.url).netloc:
            raise ValueError("the url has a login and so have username or password; keep one")
        if self.username and not (self.password or self.password_file):
            raise ValueError("a username needs a password or password_file; set it")
        _check_certificate(self, self.url.startswith("rediss://"), "a rediss:// url")
        return self

    def login_password(self) -> str | None:
        """The password, from wherever it was given; ConfigError where its file is unreadable."""
        return _password(self.password, self.password_file, "redis")

    @field_serializer("url", when_used="json")
    def _mask_login(self, url: str) -> str:
        """Return the URL without its login and options, which may hold a password."""
        scheme, _, rest = url.partition("://")
        address, options, _ = rest.rpartition("@")[2].partition("?")
        login = "(credentials)@" if "@" in rest else ""
        return f"{scheme}://{login}{address}{'?(options)' if options else ''}"


def _check_certificate(section: Kafka | Redis, encrypted: bool, cure: str) -> None:
    if (section.ssl_cert_file is None) != (section.ssl_key_file is None):
        raise ValueError("ssl_cert_file and ssl_key_file go together; set both or neither")
    if not encrypted and (section.ssl_ca_file or section.ssl_cert_file):
        raise ValueError(f"ssl files are given, but nothing is encrypted; set {cure}")


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
    customer_models: int = Field(
        100_000,
        ge=1,
        le=1_000_000,
        description="Distinct (customer, model); further ones are counted as the customer's "
        "`__other__` model.",
    )


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
    max_batch_mb: int = Field(
        32,
        ge=1,
        le=1_024,
        description="Largest record batch after decompression; a partition that holds a larger one "
        "is halted there, for a person to look.",
    )
    dedup_window_s: int = Field(
        600,
        ge=0,
        le=86_400,
        description="Event time over which a `request_id` seen before is recognised and not "
        "counted again, also after a restart; 0 switches it off.",
    )
    dedup_max_ids: int = Field(
        2_000_000,
        ge=1,
        description="Request ids a worker remembers over all its partitions, about 30 bytes each; "
        "beyond it the oldest are forgotten first, and a metric says so.",
    )
    breaker_ratio: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share refused of the last `breaker_records` records of a partition above "
        "which it is paused, since its producer is broken rather than a record; 1 switches it off.",
    )
    breaker_records: int = Field(
        1_000, ge=1, description="Records of a partition over which that share is taken."
    )
    breaker_run: int = Field(
        500,
        ge=0,
        description="Records refused one after another at which a partition is paused; "
        "0 switches it off.",
    )
    archive_interval_s: int = Field(
        3_600,
        ge=0,
        description="How often a partition's state is also written to `kafka.archive_topic`, from "
        "which it is restored when Redis has lost it; 0 switches it off.",
    )
    lateness_s: int = Field(
        30,
        ge=0,
        le=600,
        description="How long after its end a slice waits before it is merged into the next "
        "coarser one. Later events still count; they cost a little more.",
    )
    customer_key: SecretStr | None = Field(
        None,
        description="Secret of the HMAC that replaces customer ids before they enter the state.",
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
            secret = read_secret(self.customer_key_file, "worker.customer_key_file")
        else:
            key = self.customer_key
            secret = b"" if key is None else key.get_secret_value().encode()
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
    policies: tuple[str, ...] = Field(
        ("default",),
        description="Policies in force, as files or by the names of shipped ones (policies.md).",
    )
    web_config_file: Path | None = Field(
        None,
        description="TLS and users of all pages, in the form of Prometheus' web configuration "
        "file (security.md).",
    )
    customer_directory: Path | None = Field(
        None, description="YAML file: id, name, segment, contract, monthly_commitment_usd."
    )
    price_book: str | None = Field(
        None, description="Prices, for cache dollars: a file, or a shipped book (prices.md)."
    )
    runbooks_url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Where people read `docs/runbooks`; the live board's troubles link there.",
    )
    provider_name: str = Field(
        "tokenpulse", description="`gen_ai.provider.name` on the OpenTelemetry-named histograms."
    )
    operation_name: str = Field(
        "chat", description="`gen_ai.operation.name` on the OpenTelemetry-named histograms."
    )
