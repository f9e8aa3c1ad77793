"""The runbooks of the alerts as pages, rendered from docs/runbooks, which the package contains."""

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

INDEX = "README"


@cache
def runbook_names() -> tuple[str, ...]:
    """Return the names of the alerts that have a runbook, sorted; the index is not one."""
    folder = files("exporters.drill") / "runbooks"
    names = (entry.name.removesuffix(".md") for entry in folder.iterdir())
    return tuple(sorted(name for name in names if name != INDEX))


@cache
def runbook_html(name: str) -> Markup:
    """Return a runbook, or INDEX, as HTML. Raises KeyError if there is none of this name."""
    if name != INDEX and name not in runbook_names():
        raise KeyError(name)
    text = (files("exporters.drill") / "runbooks" / f"{name}.md").read_text(encoding="utf-8")
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = list(_for_pages(markdown.parse(text)))
    # Ours, not of a reader or an event; HTML inside the text is escaped.
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))  # noqa: S704


def _for_pages(tokens: list[Token]) -> Iterator[Token]:
    """Yield tokens whose links lead to pages of the exporter; other relative links become text."""
    dropped = False
    for token in tokens:
        # Alignment of a table's column would be an inline style, which the pages forbid.
        token.attrs.pop("style", None)
        if token.children:
            token.children = list(_for_pages(token.children))
        if token.type == "link_open":
            address = _address(str(token.attrs["href"]))
            dropped = address is None
            if address is not None:
                token.attrs["href"] = address
        if dropped and token.type in ("link_open", "link_close"):
            continue
        yield token


def _address(target: str) -> str | None:
    """Return the address of a link relative to `/runbooks/`; None if no page has its target."""
    if target.startswith(("http://", "https://", "#")):
        return target
    name = target.removesuffix(".md")
    if name == INDEX:
        return "./"
    return name if name in runbook_names() else None
