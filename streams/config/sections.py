"""The settings by section: names, defaults, ranges and meanings.

Pure, except that secrets are read from files. settings.py reads and shows the settings.
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
    """One group of settings. An unknown key is an error, as it is probably misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_secret(file: Path, setting: str) -> bytes:
    """Return the content of a file with a secret, without the white space around it.

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
    """The Kafka cluster, its topics and the login."""

    bootstrap: str = Field(
        "127.0.0.1:9092", description="Brokers as `host:port`, separated by commas."
    )
    topic: str = Field(
        "inference.requests",
        description="Topic that the events are read from, one event per record.",
    )
    dlq_topic: str = Field(
        "inference.requests.dlq",
        description="Dead-letter topic. It receives the rejected records, byte for byte.",
    )
    group: str = Field(
        "tokenpulse",
        description="Consumer group of the workers. The name is also part of the keys in Redis.",
    )
    partitions: int = Field(
        8, ge=1, description="Number of partitions that `topics create` creates."
    )
    replication: int = Field(
        1, ge=1, description="Number of replicas that `topics create` requests."
    )
    retention_h: float = Field(
        24 * 40,
        gt=0,
        description="How long Kafka keeps events, in hours, for `topics create`. Set it to "
        "the longest window plus the longest outage that you want to recover "
        "from.",
    )
    max_message_bytes: int = Field(
        1_048_576, ge=1024, description="Size of the largest record batch, for `topics create`."
    )
    isolation_level: Literal["read_committed", "read_uncommitted"] = Field(
        "read_committed",
        description="`read_committed` skips the records of aborted transactions; "
        "`read_uncommitted` counts them.",
    )
    fetch_max_partition_bytes: int = Field(
        1_048_576,
        ge=65_536,
        description="Largest number of bytes that one fetch reads from one partition.",
    )
    session_timeout_s: float = Field(
        30,
        ge=1,
        description="If a worker sends the consumer group no heartbeat for this time, the "
        "broker assigns its partitions to other workers.",
    )
    heartbeat_interval_s: float = Field(
        3, gt=0, description="Time between two heartbeats of the consumer group."
    )
    metadata_max_age_s: float = Field(
        60,
        ge=1,
        le=3_600,
        description="How often topics and partition leaders are looked up. A worker finds "
        "new partitions after this time at the latest.",
    )
    archive_topic: str = Field(
        "tokenpulse.state",
        description="Compacted topic to which the state is archived every "
        "`worker.archive_interval_s`.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="Protocol to the brokers: `SASL_...` uses a login, `...SSL` uses TLS.",
    )
    sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="Authentication mechanism of the login."
    )
    username: str | None = Field(None, description="User name of the login.")
    password: SecretStr | None = Field(None, description="Password of the login.")
    password_file: Path | None = Field(None, description="File that contains the password.")
    allow_sasl_without_tls: bool = Field(
        False,
        description="Allow `SASL_PLAINTEXT`, which sends the login and all events unencrypted.",
    )
    ssl_ca_file: Path | None = Field(
        None,
        description="CA certificates that sign the brokers' certificates; default: those of "
        "the system.",
    )
    ssl_cert_file: Path | None = Field(
        None, description="Client certificate, if the brokers require one."
    )
    ssl_key_file: Path | None = Field(
        None, description="Key of the client certificate, without a passphrase."
    )

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
                "security_protocol SASL_PLAINTEXT sends the login unencrypted; set "
                "SASL_SSL, or allow_sasl_without_tls: true"
            )
        _check_certificate(self, "SSL" in self.security_protocol, "security_protocol SSL, SASL_SSL")
        return self

    def login_password(self) -> str | None:
        """Return the password. Raises ConfigError if its file cannot be read."""
        return _password(self.password, self.password_file, "kafka")


class Redis(Section):
    """The Redis server that stores the state."""

    url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="Address: `redis://`, `rediss://` (TLS) or `unix://`. It may contain "
        "user and password.",
        repr=False,
    )
    timeout_s: float = Field(
        2, gt=0, le=30, description="Time limit for one answer, and for a connection attempt."
    )
    username: str | None = Field(None, description="User name, if the URL contains none.")
    password: SecretStr | None = Field(None, description="Password, if the URL contains none.")
    password_file: Path | None = Field(None, description="File that contains the password.")
    ssl_ca_file: Path | None = Field(
        None,
        description="CA certificates that sign the server's certificate; default: those of "
        "the system.",
    )
    ssl_cert_file: Path | None = Field(
        None, description="Client certificate, if Redis requires one."
    )
    ssl_key_file: Path | None = Field(
        None, description="Key of the client certificate, without a passphrase."
    )

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
        """Return the password. Raises ConfigError if its file cannot be read."""
        return _password(self.password, self.password_file, "redis")

    @field_serializer("url", when_used="json")
    def _mask_login(self, url: str) -> str:
        """Return the URL without its login and options, which may contain a password."""
        scheme, _, rest = url.partition("://")
        address, options, _ = rest.rpartition("@")[2].partition("?")
        login = "(credentials)@" if "@" in rest else ""
        return f"{scheme}://{login}{address}{'?(options)' if options else ''}"


def _check_certificate(section: Kafka | Redis, encrypted: bool, fix: str) -> None:
    if (section.ssl_cert_file is None) != (section.ssl_key_file is None):
        raise ValueError("ssl_cert_file and ssl_key_file go together; set both or neither")
    if not encrypted and (section.ssl_ca_file or section.ssl_cert_file):
        raise ValueError(f"ssl files are given, but the connection is not encrypted; set {fix}")


class Limits(Section):
    """Largest numbers of distinct names. Further names are counted under `__other__`."""

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
        description="Distinct (customer, model). Further ones are counted as model "
        "`__other__` of the same customer.",
    )


Targets = Annotated[tuple[Annotated[float, Field(gt=0, le=86_400)], ...], Field(max_length=16)]


class Worker(Section):
    """How a worker counts events. Names beyond `limits` are counted under `__other__`."""

    flush_interval_s: float = Field(
        1, ge=0.05, le=60, description="Time between two checkpoints of a partition."
    )
    flush_max_events: int = Field(
        200_000, ge=1, description="A checkpoint is written early after this many events."
    )
    backlog_max_events: int = Field(
        1_000_000,
        ge=1,
        description="A worker pauses consuming when this many counted events are not yet in Redis.",
    )
    resident_max_mb: int = Field(
        64,
        ge=8,
        description="Memory of a worker for slices that are already in Redis, over all its "
        "partitions.",
    )
    max_event_bytes: int = Field(
        262_144, ge=256, description="Largest record. Larger ones are rejected (`too_large`)."
    )
    future_tolerance_s: int = Field(
        300,
        ge=0,
        description="How much later than the record's Kafka timestamp `ended_at` may be. "
        "Records beyond it are rejected (`from_the_future`).",
    )
    max_batch_mb: int = Field(
        32,
        ge=1,
        le=1_024,
        description="Largest record batch after decompression. A larger batch halts its "
        "partition until an operator resumes it.",
    )
    dedup_window_s: int = Field(
        600,
        ge=0,
        le=86_400,
        description="Span of event time in which a repeated `request_id` is recognised and "
        "not counted again, also after a restart; 0 switches deduplication off.",
    )
    dedup_max_ids: int = Field(
        2_000_000,
        ge=1,
        description="Number of request ids that a worker remembers over all its partitions, "
        "about 30 bytes each. Beyond it the oldest ids are forgotten early, and "
        "`tokenpulse_duplicate_window_forgotten_total` rises.",
    )
    breaker_ratio: float = Field(
        0.5,
        gt=0,
        le=1,
        description="A partition halts if more than this share of its last "
        "`breaker_records` records was rejected, because its producer is "
        "probably broken; 1 switches this limit off.",
    )
    breaker_records: int = Field(1_000, ge=1, description="Number of records for `breaker_ratio`.")
    breaker_run: int = Field(
        500,
        ge=0,
        description="A partition halts after this many consecutive rejected records; 0 "
        "switches this limit off.",
    )
    archive_interval_s: int = Field(
        3_600,
        ge=0,
        description="Time between two archives of a partition's state in "
        "`kafka.archive_topic`. The state is restored from there if Redis lost "
        "it; 0 switches archiving off.",
    )
    lateness_s: int = Field(
        30,
        ge=0,
        le=600,
        description="A slice is merged into the next coarser slice this long after its end. "
        "Later events still count, at slightly higher cost.",
    )
    customer_key: SecretStr | None = Field(
        None,
        description="Secret key of the HMAC that replaces customer ids in the state.",
    )
    customer_key_file: Path | None = Field(None, description="File that contains the secret key.")
    ttft_targets_s: Targets = Field(
        (0.3,), description="TTFT limits. For each, the requests within it are counted exactly."
    )
    tpot_targets_s: Targets = Field((0.05,), description="TPOT limits that are counted exactly.")
    duration_targets_s: Targets = Field((), description="Duration limits that are counted exactly.")
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.customer_key is not None and self.customer_key_file is not None:
            raise ValueError("give customer_key or customer_key_file, not both")
        return self

    def customer_secret(self) -> bytes:
        """Return the HMAC key. Raises ConfigError if none is set: a default would be no secret."""
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
    """The exporter: its address, windows, policies and reference files."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        9464, ge=0, le=65_535, description="Port to listen on; 0 chooses a free port."
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
    policies: tuple[str, ...] = Field(
        ("default",),
        description="Policies in force: paths of files, or names of shipped policies "
        "(policies.md).",
    )
    web_config_file: Path | None = Field(
        None,
        description="TLS and users of all pages, in the format of Prometheus' web "
        "configuration file (security.md).",
    )
    customer_directory: Path | None = Field(
        None,
        description="YAML file with a list of customers. Keys: `id`, `name`, `segment`; "
        "optional: `contract`, `monthly_commitment_usd`.",
    )
    price_book: str | None = Field(
        None,
        description="Prices for cache dollars: path of a file, or name of a shipped price "
        "book (prices.md).",
    )
    runbooks_url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Address of your copy of `docs/runbooks`. The incidents on the live "
        "board link to it.",
    )
    provider_name: str = Field(
        "tokenpulse",
        description="`gen_ai.provider.name` on the histograms with OpenTelemetry names.",
    )
    operation_name: str = Field(
        "chat", description="`gen_ai.operation.name` on the histograms with OpenTelemetry names."
    )
