"""Settings: one typed object, from defaults, a YAML file and the environment.

Later wins: defaults, then the YAML file (`--config` or TOKENPULSE_CONFIG), then variables such as
TOKENPULSE_KAFKA__TOPIC, where two underscores step into a section. A secret may also be given as
a file (`..._file`), so that it never stands in a command line or in a process listing.

The other modules of this folder define the settings; `make docs` generates docs/configuration.md.
"""

import json
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from inspect import cleandoc
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from streams.config.base import ENV_PREFIX, Section
from streams.config.daily import Daily
from streams.config.environment import misspelt_variables
from streams.config.exporter import Exporter
from streams.config.intake import Intake
from streams.config.latency import Latency
from streams.config.local import Local
from streams.config.logs import Logs
from streams.config.schema_registry import SchemaRegistry
from streams.config.servers import Kafka, Redis
from streams.config.validation import Location, findings
from streams.config.worker import Limits, Worker
from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError

__all__ = [
    "ENV_PREFIX",
    "ConfigError",
    "Daily",
    "Exporter",
    "Intake",
    "Kafka",
    "Latency",
    "Limits",
    "Local",
    "Logs",
    "Redis",
    "SchemaRegistry",
    "Section",
    "Settings",
    "Worker",
    "document",
    "load_settings",
]

_LISTS = (tuple, list, frozenset)  # variables of these are written as JSON
_UNKNOWN_KEY = "no such setting; docs/configuration.md lists them all"
_SIMILAR = 0.75  # of `difflib`: near enough to be a mistyped name


class Settings(BaseSettings):
    """All settings. They are read once at start and never change."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    # A class attribute: pydantic builds the sources itself and passes no argument on.
    file_content: ClassVar[Mapping[str, Any]] = {}

    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    worker: Worker = Worker()
    latency: Latency = Latency()
    exporter: Exporter = Exporter()
    daily: Daily = Daily()
    intake: Intake = Intake()
    schema_registry: SchemaRegistry = SchemaRegistry()
    local: Local = Local()
    logs: Logs = Logs()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the strongest first: command line, environment, YAML file."""
        file = InitSettingsSource(settings_cls, dict(cls.file_content))
        return init_settings, env_settings, file


def load_settings(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the settings.

    `path`: a YAML file; without it the one named by TOKENPULSE_CONFIG, if any. `overrides`: nested
    mapping of what the command line says. Raises ConfigError with one line per finding.
    """
    if path is None and (named := os.environ.get(ENV_PREFIX + "CONFIG")):
        path = Path(named)
    if path is not None and not os.path.isfile(path):
        raise ConfigError(f"{path}: no such file; give --config the path of a YAML file")
    # pydantic ignores variables that match no field, so a misspelt one would have no effect.
    misspelt = list(misspelt_variables(os.environ, _variables(), ENV_PREFIX))
    content = _read_file(path) if path is not None else {}
    # A class for each call: the content of one file must not reach the next.
    reading = type("Settings", (Settings,), {"file_content": content})
    try:
        settings: Settings = reading(**(overrides or {}))
    except SettingsError as error:  # its text has no value in it, that of its cause has
        unread = list(_not_json()) or [f"{' '.join(str(error).split())}; write JSON"]
        raise ConfigError("\n".join([*misspelt, *unread])) from None
    except ValidationError as error:
        origin = str(path) if path else ""
        lines = findings(error.errors(), origin, _unknown_key, is_public=_is_public)
        raise ConfigError("\n".join([*misspelt, *lines])) from error
    if misspelt:
        raise ConfigError("\n".join(misspelt))
    return settings


def _unknown_key(location: Location) -> str:
    """Return the fix for a setting that does not exist: the one that was meant, if one is near."""
    *sections, name = map(str, location)
    model: Any = Settings
    for section in sections:
        field = model.model_fields.get(section)
        model = None if field is None else field.annotation
        if not hasattr(model, "model_fields"):
            return _UNKNOWN_KEY
    near = get_close_matches(name, model.model_fields, 1, _SIMILAR)
    return f"no such setting; did you mean {near[0]}?" if near else _UNKNOWN_KEY


def _read_file(path: Path) -> dict[str, Any]:
    """Return the settings of a file. Raises ConfigError."""
    document = parse_document(read_text(path), str(path), has_secrets=True)
    if document is not None and not isinstance(document, dict):
        raise ConfigError(f"{path}: not a mapping; write sections such as `kafka:`")
    return document or {}


def _variables() -> Iterator[str]:
    """Yield the environment variables of all settings and sections."""
    yield ENV_PREFIX + "CONFIG"
    for variable, _ in _fields():
        yield variable


def _not_json() -> Iterator[str]:
    """Yield one line, without the value, for each variable that must be JSON and is none."""
    for variable, field in _fields():
        is_section = _section(field) is not None
        text = os.environ.get(variable)
        if text is not None and (is_section or get_origin(field.annotation) in _LISTS):
            try:
                json.loads(text)
            except (ValueError, RecursionError):
                example = '{"name": value}' if is_section else '["a", "b"] or [0.3, 1]'
                yield f"{variable}: not JSON; write {example}"


def _fields() -> Iterator[tuple[str, FieldInfo]]:
    """Yield the environment variable of each setting and section, with its field."""
    for name, field in Settings.model_fields.items():
        yield from _fields_of(ENV_PREFIX + name.upper(), field)


def _fields_of(variable: str, field: FieldInfo) -> Iterator[tuple[str, FieldInfo]]:
    yield variable, field
    if (section := _section(field)) is not None:
        for name, part in section.model_fields.items():
            yield from _fields_of(f"{variable}__{name.upper()}", part)


def _is_public(location: Location) -> bool:
    """Return whether the value at a location is surely no secret.

    A value under an unknown key may be a secret under a misspelt name.
    """
    fields = Settings.model_fields
    for part in location:
        field = fields.get(str(part))
        if field is None:
            return False
        if (section := _section(field)) is None:
            return SecretStr not in get_args(field.annotation) and field.repr
        fields = section.model_fields
    # The location is a whole section, which may contain a secret.
    return False


def _section(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def document() -> str:
    """Return the text of docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Generated from `streams/config/` by `make docs`: do not edit.",
        "",
        "Settings come from three sources. A later one overrides an earlier one:",
        "",
        "1. the defaults below",
        "2. a YAML file: `tokenpulse --config FILE ...`, or the variable `TOKENPULSE_CONFIG=FILE`",
        "3. environment variables, named `TOKENPULSE_<SECTION>__<SETTING>` in capitals; two",
        "   underscores separate the parts, and lists are written as JSON",
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
        "`tokenpulse config check` prints the settings in force, without secrets, and checks the",
        "key, the files that they name, and that Kafka and Redis answer. It shows all problems at",
        "once. `--role worker`, `exporter`, `intake` or `client` checks only what such a process",
        "needs. The command warns of settings of the topics by which records would be lost, with",
        "the fix ([reliability.md](reliability.md#topics)).",
        "",
        "An unknown setting is an error. Names that end in `_s`, `_h` and `_mb` are in seconds,",
        "hours and megabytes. A setting without a default is not set.",
    ]
    for name, field in Settings.model_fields.items():
        section = _section(field)
        assert section is not None
        lines += ["", f"## {name}", "", cleandoc(section.__doc__ or ""), ""]
        lines += ["| setting | default | meaning |", "|---|---|---|"]
        lines += _rows(section, "")
    return "\n".join(lines) + "\n"


def _rows(section: type[Section], prefix: str) -> list[str]:
    rows = []
    for key, field in section.model_fields.items():
        if (part := _section(field)) is not None:
            rows += _rows(part, f"{prefix}{key}.")
            continue
        default = field.get_default(call_default_factory=True)
        shown_default = "" if default is None else f"`{_plain(default)}`"
        rows.append(f"| `{prefix}{key}` | {shown_default} | {field.description} |")
    return rows


def _plain(value: Any) -> str:
    match value:
        case tuple() | frozenset():
            # A set has no order of its own; the document must not change from run to run.
            parts = sorted(value) if isinstance(value, frozenset) else value
            return "[" + ", ".join(str(part) for part in parts) + "]"
        case bool():
            return str(value).lower()  # as YAML writes it
    return str(value)
