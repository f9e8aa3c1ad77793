"""Runbooks as pages: each is there, its links work, and nothing in it breaks the page's policy."""

import re
from collections.abc import Callable

import pytest

from exporters.drill.runbooks import INDEX, runbook_html, runbook_names
from streams.config.settings import Settings
from tests.support.drill_pages import answers
from tests.support.exporter_state import NOW_S, event
from tests.support.paths import ROOT


def test_each_runbook_of_the_documentation_is_in_the_package() -> None:
    documented = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert {INDEX, *runbook_names()} == documented


@pytest.mark.parametrize("name", [INDEX, *runbook_names()])
def test_a_runbook_links_only_to_pages_that_exist(name: str) -> None:
    html = runbook_html(name)
    assert "<h1>" in html
    assert " style=" not in html
    targets = set(re.findall(r'href="([^"]*)"', html))
    assert [one for one in targets if one.startswith(("..", "/")) or one.endswith(".md")] == []
    relative = {one for one in targets if not one.startswith(("http", "#"))}
    assert relative <= {"./", *runbook_names()}


def test_the_index_lists_every_runbook() -> None:
    html = runbook_html(INDEX)
    assert [name for name in runbook_names() if f'href="{name}"' not in html] == []


def test_runbooks_are_served_and_unknown_ones_get_near_names(
    configured: Callable[..., Settings],
) -> None:
    paths = [
        "/runbooks",
        "/runbooks/",
        "/runbooks/TokenpulseTtftHigh",
        "/runbooks/TokenpulseTtfHigh",
    ]
    listed, index, page, unknown = answers(configured(), {0: [event(NOW_S)]}, paths)
    assert listed.text == index.text
    assert (index.status, page.status, unknown.status) == (200, 200, 404)
    assert "<h1>TokenpulseTtftHigh</h1>" in page.text
    assert '<a href="TokenpulseCacheHitLow">CacheHitLow</a>' in page.text
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "near names: TokenpulseTtftHigh" in unknown.text
