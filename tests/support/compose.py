"""docker-compose.yml as data."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.support.paths import ROOT

COMPOSE = ROOT / "docker-compose.yml"


def document(variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file, with `${NAME:-default}` filled in as Compose does."""
    given = variables or {}
    text = re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1]) or found[2], COMPOSE.read_text()
    )
    assert "${" not in text
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def environment_of(service: Mapping[str, Any]) -> dict[str, str]:
    """What stands in the service, as strings."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def mounts_of(service: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Source (a path or the name of a volume), target, and whether it is read only."""
    split = [one.split(":") for one in service.get("volumes", [])]
    return [(parts[0], parts[1], "ro" in parts[2:]) for parts in split]


def secrets_of(service: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name, and the path in the container."""
    secrets: list[str | dict[str, str]] = service.get("secrets", [])
    long = [{"source": one} if isinstance(one, str) else one for one in secrets]
    found = [(one["source"], one.get("target", one["source"])) for one in long]
    return [
        (name, target if target[0] == "/" else f"/run/secrets/{target}") for name, target in found
    ]
