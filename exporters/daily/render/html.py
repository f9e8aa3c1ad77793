"""The daily board as one self-contained HTML document: no script, no further request.

Pure. The template engine escapes every text. The style sheet is inline, and the content security
policy allows it by its hash and forbids the rest.
"""

from functools import cache
from typing import Any

from jinja2 import Environment

from exporters.daily.day.facts import METRICS, DailyFacts
from exporters.daily.day.verdict import TITLES
from exporters.daily.render.charts import Plot, plot
from exporters.daily.render.rows import MetricChart
from exporters.daily.render.view import View, view_of
from exporters.formatting import unbroken
from exporters.templates import style_source, templates

CHART_WIDTH, CHART_HEIGHT = 168, 40
# A running day that is open in a browser is read again this often.
RELOAD_S = 60


def html(facts: DailyFacts, *, served: bool = False) -> str:
    """Return the page. `served`: at /daily, with links to other days and formats.

    The same facts give the same bytes.
    """
    return page(view_of(facts), served=served)


def page(view: View, *, served: bool) -> str:
    """Return the page of a view."""
    return (
        _templates()
        .get_template("daily.html")
        .render(
            view=view,
            served=served,
            css=style(),
            csp=content_security_policy(),
            titles=[TITLES[metric] for metric in METRICS],
            reload_s=RELOAD_S if served and view.state == "still running" else None,
        )
    )


def message(facts: DailyFacts, link: str | None) -> str:
    """Return the page for an e-mail: tables and inline styles, as mail programs need."""
    view = view_of(facts)
    return _templates().get_template("mail.html").render(view=view, link=link)


def problem_page(words: str, title: str) -> str:
    """Return a page that says why there is no board."""
    return (
        _templates()
        .get_template("problem.html")
        .render(words=words, title=title, css=style(), csp=content_security_policy())
    )


@cache
def style() -> str:
    """Return the style sheet."""
    environment = _templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, "daily.css")[0].strip()


@cache
def content_security_policy() -> str:
    """Return the policy: the page may use its one style sheet and request another day."""
    return (
        f"default-src 'none'; style-src {style_source(style())}; base-uri 'none'; "
        "form-action 'self'; "
        "img-src data:"
    )


@cache
def _templates() -> Environment:
    environment = templates("exporters.daily.render")
    environment.finalize = _unbroken
    environment.globals["plot"] = _plot
    environment.globals["chart_size"] = (CHART_WIDTH, CHART_HEIGHT)
    return environment


def _unbroken(value: Any) -> Any:
    # Only of plain strings: the style sheet is Markup, and must keep its spaces for its hash.
    return unbroken(value) if type(value) is str else value


def _plot(chart: MetricChart) -> Plot:
    return plot(chart, CHART_WIDTH, CHART_HEIGHT)
