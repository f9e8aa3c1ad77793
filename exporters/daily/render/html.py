"""The daily board as one HTML document that needs nothing else: no script, no request.

Pure. Every text is escaped by the template engine; the style sheet stands inside, and the policy of
the page (CSP) names it by its hash and allows nothing besides.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256

from jinja2 import Environment

from exporters.daily.day.facts import METRICS, DailyFacts
from exporters.daily.render.charts import Plot, plot
from exporters.daily.render.rows import TITLES, Chart
from exporters.daily.render.view import View, view_of
from exporters.templates import templates

CHART_WIDTH, CHART_HEIGHT = 168, 40
# A running day that is open in a browser is read again this often.
RELOAD_S = 60


def html(facts: DailyFacts, *, served: bool = False) -> str:
    """The page. `served`: at /daily, with links to other days and formats; else a file by itself.

    The same facts give the same bytes.
    """
    return page(view_of(facts), served=served)


def page(view: View, *, served: bool) -> str:
    """The page of what is to be said."""
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
    """The page for an e-mail: tables and inline styles, which is what mail programs show."""
    view = view_of(facts)
    return _templates().get_template("mail.html").render(view=view, link=link)


def trouble(words: str, title: str) -> str:
    """A page that says why there is no board."""
    return (
        _templates()
        .get_template("trouble.html")
        .render(words=words, title=title, css=style(), csp=content_security_policy())
    )


@cache
def style() -> str:
    """The style sheet."""
    environment = _templates()
    assert environment.loader is not None
    return environment.loader.get_source(environment, "daily.css")[0].strip()


@cache
def content_security_policy() -> str:
    """What a browser may do with the page: use its one style sheet, ask for another day."""
    digest = b64encode(sha256(style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'self'; "
        "img-src data:"
    )


@cache
def _templates() -> Environment:
    environment = templates("exporters.daily.render")
    environment.globals["plot"] = _plot
    environment.globals["chart_size"] = (CHART_WIDTH, CHART_HEIGHT)
    return environment


def _plot(chart: Chart) -> Plot:
    return plot(chart, CHART_WIDTH, CHART_HEIGHT)
