"""The settings of a worker: checkpoints, limits, deduplication, thresholds.

Pure, except that the key of customer ids is read from a file.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from streams.config.base import ENV_PREFIX, Section, read_secret
from streams.errors import ConfigError


class Limits(Section):
    """Largest numbers of distinct names."""

    models: int = Field(200, ge=1, le=1_000, description="Distinct models.")
    regions: int = Field(100, ge=1, description="Distinct regions.")
    channels: int = Field(50, ge=1, description="Distinct channels.")
    service_tiers: int = Field(20, ge=1, description="Distinct service tiers.")
    # The upper limits keep the registry's numbers within the bits of a table key.
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
    """How a worker counts events. Names beyond `limits` are counted under `__other__`, except those
    in the scopes and exclusions of `exporter.policies`, which always have rows of their own."""

    metrics_host: str = Field(
        "127.0.0.1", description="Address of `/metrics` and `/healthz` of the worker itself."
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="Port of `/metrics` and `/healthz` of the worker itself; 0 chooses a free "
        "port, which the log names. Default: none, as several workers may run on one machine.",
    )
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
    names_last_part: bool = Field(
        False,
        description="Count ARNs and paths among models, regions, channels, service tiers and use "
        "cases under their last part: "
        "`projects/p/locations/l/publishers/google/models/gemini-2` under `gemini-2`. "
        "This includes names such as `meta-llama/Llama-3`. Give all workers the same value.",
    )
    max_batch_mb: int = Field(
        32,
        ge=1,
        le=1_024,
        description="Largest record batch after decompression. A larger batch halts its "
        "partition until an operator resumes it.",
    )
    dedup_window_s: int = Field(
        1_800,
        ge=0,
        le=86_400,
        description="Time after its arrival in which a repeated `request_id` is recognised and "
        "not counted again, also after a restart; 0 switches deduplication off.",
    )
    dedup_max_ids: int = Field(
        4_000_000,
        ge=1,
        description="Number of request ids that a worker remembers over all its partitions, "
        "about 30 bytes each: by default half an hour of 2,200 requests a second. Beyond it the "
        "oldest ids are forgotten early, and `tokenpulse_duplicate_window_forgotten_total` rises.",
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
    customer_key_previous: SecretStr | None = Field(
        None,
        description="While the key is changed: the key before it (docs/security.md, Changing the "
        "key). Customers keep their history.",
    )
    customer_key_previous_file: Path | None = Field(
        None, description="File that contains the key before."
    )
    ttft_targets_s: Targets = Field(
        (0.3,), description="TTFT limits. For each, the requests within it are counted exactly."
    )
    tpot_targets_s: Targets = Field((0.05,), description="TPOT limits that are counted exactly.")
    duration_targets_s: Targets = Field((), description="Duration limits that are counted exactly.")
    first_visible_targets_s: Targets = Field(
        (), description="Limits of the first visible token that are counted exactly."
    )
    output_speed_targets: Targets = Field(
        (),
        description="Output speeds in tokens per second, `output_tokens / (duration - TTFT)`. For "
        "each, the requests that reach it are counted exactly.",
    )
    input_token_limits: Annotated[
        tuple[Annotated[int, Field(ge=1, le=10**12)], ...], Field(max_length=8)
    ] = Field(
        (),
        description="Input lengths in tokens that policies name. The requests up to and above "
        "each limit are counted separately, which multiplies the series in the state; metrics, "
        "boards and reports show their sums.",
    )
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        # The two may differ, and the wrong one would give every customer another hash.
        for name in ("customer_key", "customer_key_previous"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"give {name} or {name}_file, not both")
        return self

    def customer_secret(self) -> bytes:
        """Return the HMAC key. Raises ConfigError if none is set: a default would be no secret."""
        return _customer_key("customer_key", self.customer_key, self.customer_key_file)

    def previous_customer_secret(self) -> bytes | None:
        """Return the HMAC key before the present one; None unless the key is being changed.

        Raises ConfigError if it cannot be used.
        """
        key, file = self.customer_key_previous, self.customer_key_previous_file
        if key is None and file is None:
            return None
        secret = _customer_key("customer_key_previous", key, file)
        if secret == self.customer_secret():
            raise ConfigError(
                "worker.customer_key_previous: is the same as worker.customer_key; set the new key "
                "as worker.customer_key, or remove this one"
            )
        return secret


def _customer_key(name: str, key: SecretStr | None, file: Path | None) -> bytes:
    if file is not None:
        secret = read_secret(file, f"worker.{name}_file")
    else:
        secret = b"" if key is None else key.get_secret_value().encode()
    # A short key can be guessed, and the hashes then betray the ids.
    if len(secret) < 16:
        raise ConfigError(
            f"worker.{name}: customer ids are stored only as a keyed hash; set "
            f"{ENV_PREFIX}WORKER__{name.upper()} or worker.{name}_file to a secret of at "
            "least 16 bytes (for example from `openssl rand -hex 32`)"
        )
    return secret
