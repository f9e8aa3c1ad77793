"""Settings: one typed object, from defaults, a YAML file and the environment.

Later wins: defaults, then the YAML file (`--config` or TOKENPULSE_CONFIG), then variables such as
TOKENPULSE_KAFKA__TOPIC, where two underscores step into a section. A secret may also be given as
a file (`..._file`), so that it never stands in a command line or in a process listing.

The settings themselves: sections.py. docs/configuration.md is generated from them (`make docs`).
"""

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from streams.config.daily import Daily
from streams.config.local import Local
from streams.config.sections import ENV_PREFIX, Exporter, Kafka, Limits, Redis, Section, Worker
from streams.errors import ConfigError

__all__ = [
    "ENV_PREFIX",
    "ConfigError",
    "Daily",
    "Exporter",
    "Kafka",
    "Limits",
    "Local",
    "Redis",
    "Section",
    "Settings",
    "Worker",
    "document",
    "load_settings",
    "shown",
]


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
    daily: Daily = Daily()
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
        raise ConfigError(f"{path}: {_place(error)}") from None
    except SettingsError as error:  # its text has no value in it, that of its cause has
        raise ConfigError(f"{' '.join(str(error).split())}; write JSON") from None
    except ValidationError as error:
        raise ConfigError("\n".join(_findings(error, path))) from error
    return settings


def _place(error: yaml.YAMLError) -> str:
    """Where a file is not YAML. Not the parser's words: they quote the text, perhaps a secret."""
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    return f"not YAML{where}; text that begins with a sign needs quotes"


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
        found = _found(finding)
        found = f"got {found}; " if found else ""
        lines.append(f"{origin}{where}: {found}{cure}")
    return lines


def _found(finding: ErrorDetails) -> str:
    """What stands there; not a secret, nor what may be one under a misspelt name."""
    if isinstance(finding["input"], dict):  # settings that do not fit together: the cure says which
        return ""
    name = [part for part in finding["loc"] if isinstance(part, str)][-1]
    near = get_close_matches(name.lower(), _LEAVES, n=1)
    if name in Settings.model_fields or not near or _LEAVES[near[0]]:
        return "(hidden)"
    return repr(finding["input"])


def _leaves() -> Iterator[tuple[str, bool]]:
    """Path of each setting, and whether it is a secret."""
    for name, field in Settings.model_fields.items():
        yield from _leaves_of(field.annotation, f"{name}.")


def _leaves_of(section: Any, prefix: str) -> Iterator[tuple[str, bool]]:
    for key, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _leaves_of(field.annotation, f"{prefix}{key}.")
        else:
            extra = field.json_schema_extra
            yield f"{prefix}{key}", isinstance(extra, dict) and bool(extra.get("secret"))


_SECRETS = frozenset(path for path, secret in _leaves() if secret)
# Name without its section -> whether it is a secret in any of them.
_LEAVES = {path.rpartition(".")[2]: False for path, _ in _leaves()}
_LEAVES |= {path.rpartition(".")[2]: True for path in _SECRETS}


def shown(settings: Settings) -> dict[str, Any]:
    """The settings as plain data, secrets replaced."""
    plain = settings.model_dump(mode="json")
    for path in _SECRETS:
        section, key = path.split(".")
        if plain[section][key] is not None:
            plain[section][key] = _masked(plain[section][key])
    return plain


def _masked(secret: str) -> str:
    """Nothing of a key; of a URL neither login nor options."""
    if "://" not in secret:
        return "(set)"
    scheme, rest = secret.split("://", 1)
    address, options, _ = rest.rpartition("@")[2].partition("?")
    login = "(credentials)@" if "@" in rest else ""
    return f"{scheme}://{login}{address}{'?(options)' if options else ''}"


def document() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Generated from `streams/config/settings.py` by `make docs`.",
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
