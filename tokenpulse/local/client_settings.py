"""The settings of commands that ask a running Tokenpulse: configured, or of `tokenpulse up`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from streams.config.settings import Settings, load_settings
from tokenpulse.local.discovery import RunningStack, running_stacks


def load_client_settings(path: Path | None) -> Settings:
    """Return the settings of the running Tokenpulse that a command asks.

    Servers that are configured win. Without any, they are those of the newest `tokenpulse up` of
    this user on this machine, which is named on standard error. Raises ConfigError.
    """
    settings = load_settings(path)
    if "url" in settings.redis.model_fields_set or "bootstrap" in settings.kafka.model_fields_set:
        return settings
    stack = newest_stack("set redis.url to that")
    if stack is None:
        return settings
    click.echo(f"asking `tokenpulse up`, whose board is {stack.board_url}", err=True)
    return settings_of_stack(stack, path, settings)


def newest_stack(fix: str) -> RunningStack | None:
    """Return the newest `tokenpulse up`, None if none runs; name the others if there are several.

    `fix` tells how to choose another one.
    """
    stacks = running_stacks()
    if len(stacks) > 1:
        newest, *others = stacks
        addresses = (f"{stack.redis_url} (board {stack.board_url})" for stack in others)
        click.echo(
            f"{len(stacks)} stacks run; this goes to the newest, whose board is "
            f"{newest.board_url}; for another {fix} {' or '.join(addresses)}",
            err=True,
        )
    return stacks[0] if stacks else None


def settings_of_stack(stack: RunningStack, path: Path | None, settings: Settings) -> Settings:
    """Return the settings of a stack; what `settings`, read from `path`, sets itself stays."""
    return load_settings(path, _without(stack.settings, settings))


def _without(given: Mapping[str, Any], section: BaseModel) -> dict[str, Any]:
    """Return the given settings without those that are set in a section, or in a part of it."""
    left: dict[str, Any] = {}
    for name, value in given.items():
        part = getattr(section, name, None)
        if isinstance(part, BaseModel):
            left[name] = _without(value, part)
        elif name not in section.model_fields_set:
            left[name] = value
    return left
