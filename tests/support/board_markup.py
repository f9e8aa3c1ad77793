"""The live board as HTML, its outline, and facts whose texts are replaced."""

import dataclasses
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any, get_args, get_type_hints

import exporters.board.facts as facts_module
from exporters.board.facts import (
    LiveFacts,
    LiveState,
    State,
)
from exporters.board.live.page import fragments, page
from exporters.board.live.routes import assets


def state(facts: LiveFacts | None, problem: str | None = None) -> LiveState:
    return LiveState(facts, problem, 1.0)


def whole(facts: LiveFacts | None, problem: str | None = None) -> str:
    shown = state(facts, problem)
    return page(fragments(shown), shown, {name: one.address for name, one in assets().items()}, "b")


class Outline(HTMLParser):
    """Elements with the names of their attributes, all texts and all attribute values."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.texts: list[str] = []
        self.values: list[tuple[str, str, str]] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.values += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(markup: str) -> Outline:
    # A parser of HTML takes \r\n and \r for \n before it does anything else.
    return Outline(markup.replace("\r\n", "\n").replace("\r", "\n"))


def shown_text(markup: str) -> str:
    return " ".join(" ".join(parsed(markup).texts).split()).replace("\u00a0", " ")


def with_strings(value: Any, change: Callable[..., Any], path: tuple[str | int, ...] = ()) -> Any:
    """The same facts with every free text changed."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        return dataclasses.replace(
            value,
            **{
                field.name: with_strings(getattr(value, field.name), change, (*path, field.name))
                for field in dataclasses.fields(value)
                if get_args(hints[field.name]) not in CLOSED
            },
        )
    if isinstance(value, tuple):
        return tuple(with_strings(one, change, (*path, n)) for n, one in enumerate(value))
    return change(value) if isinstance(value, str) else value


CLOSED = [get_args(one) for one in (State, facts_module.Severity)] + [("promise", "level")]
