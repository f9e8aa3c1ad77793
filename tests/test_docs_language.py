"""Documents and command help use the settled words: each replaced word is absent outside code."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.support.paths import ROOT
from tokenpulse.cli.main import main

# Replaced word -> word to write.
REPLACED = {
    "cure": "fix",
    "everybody": "the person or process that acts",
    "folded": "counted under `__other__`",
    "nobody": "the person or process that acts",
    "refused": "rejected",
    "refuses": "rejects",
    "sealed": "finalised",
    "set apart": "counted as a duplicate",
    "sign of life": "heartbeat",
    "signs of life": "heartbeats",
    "somebody": "the person or process that acts",
    "whoever": "the person or process that acts",
}
PATTERN = re.compile(rf"\b({'|'.join(REPLACED)})\b", re.IGNORECASE)
# Old entries of the changelog quote the words of their time.
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")} - {ROOT / "CHANGELOG.md"})


def replaced_words(text: str) -> list[str]:
    """Return each replaced word in a text with the word to write, without code and links."""
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|\"[^\"\n]*\"", " ", text, flags=re.DOTALL)
    found = [match.group().lower() for match in PATTERN.finditer(" ".join(prose.split()))]
    return [f"{word}: write {REPLACED[word]}" for word in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_uses_the_settled_words(page: Path) -> None:
    assert replaced_words(page.read_text()) == []


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all commands below it, with their full names."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for part in command.list_commands(context):
            below = command.get_command(context, part)
            assert below is not None
            yield from commands(below, f"{name} {part}")


def test_the_help_of_each_command_uses_the_settled_words() -> None:
    texts = {name: command.get_help(click.Context(command)) for name, command in commands(main, "")}
    assert len(texts) > 30
    assert {name: words for name, text in texts.items() if (words := replaced_words(text))} == {}


def test_a_replaced_word_is_noticed() -> None:
    text = "The record was refused, see `refused` and its\nsign of life."
    assert replaced_words(text) == ["refused: write rejected", "sign of life: write heartbeat"]
