"""Every alert has a runbook, and what it names exists: metrics, labels, commands, settings."""

import ast
import re
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, reduce
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from click import Command, Context, Group

from exporters.catalogue.requests import SPECS
from exporters.windows.plan import window_plan
from slo.policy.burn_rates import BURN_MINUTES
from streams.config.settings import Settings
from streams.store.heartbeat import HaltReason
from tests.support.compiled_rules import alerts_in, rule_files
from tests.support.intake_labels import INTAKE_LABELS
from tests.support.paths import ROOT
from tests.support.promtool import PROMTOOL, needs_promtool
from tokenpulse.cli.main import main

RUNBOOKS = ROOT / "docs" / "runbooks"
ONE_SCREEN = 70  # lines
HEADINGS = [
    "What it means",
    "Who notices, and what it costs",
    "First five minutes",
    "Breach or pipeline fault?",
    "Silence it",
    "Afterwards",
]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.S | re.M)
METRIC = re.compile(r"\b(?:tokenpulse|gen_ai)_[a-z0-9_]+\b")
SELECTOR = re.compile(r"\b((?:tokenpulse|gen_ai)_[a-z0-9_]+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"')
SETTING = re.compile(r"(?:kafka|redis|worker|exporter)\.[a-z_]+(?:\.[a-z_]+)?")


def rules_by_alert() -> dict[str, list[dict[str, Any]]]:
    """All rules that can be compiled: of the shipped policies, of each shape, of what is in git."""
    texts = [*rule_files().values()]
    texts += [file.read_text() for file in (ROOT / "alerts/generated/prometheus").glob("*.yml")]
    found = defaultdict(list)
    for text in texts:
        for rule in alerts_in(text):
            found[rule["alert"]].append(rule)
    return dict(found)


RULES = rules_by_alert()
TEXTS = {path.name: path.read_text() for path in sorted(RUNBOOKS.glob("*.md"))}
PAGES = {name.removesuffix(".md"): text for name, text in TEXTS.items() if name != "README.md"}
each_page = pytest.mark.parametrize("alert", PAGES)
each_text = pytest.mark.parametrize("name", TEXTS)


def blocks(text: str, language: str) -> list[str]:
    return [dedent(found[2]) for found in BLOCK.findall(text) if found[1] == language]


def spans(text: str) -> list[str]:
    """What stands in back quotes within the text, each on one line."""
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", BLOCK.sub("", text))]


def commands(text: str, program: str) -> Iterator[list[str]]:
    """Command lines of a program, in blocks and in the text, as words without the program."""
    for block in blocks(text, "sh"):
        yield from _of(program, block.replace("\\\n", " ").splitlines())
    yield from _of(program, spans(text))


def _of(program: str, lines: list[str]) -> Iterator[list[str]]:
    for line in lines:
        words = shlex.split(line) if line.startswith(f"{program} ") else []
        if words:
            yield words[1:]


def queries(text: str) -> list[str]:
    """One a line of a block; indented lines belong to the one above."""
    return [
        query
        for block in blocks(text, "promql")
        for query in re.split(r"\n(?=\S)", block.strip())
        if query
    ]


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert set(PAGES) == set(RULES)


def test_the_rules_in_the_project_lead_to_these_pages() -> None:
    for alert, rules in RULES.items():
        for rule in rules:
            assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{alert}.md")


def test_the_index_names_every_page_with_its_severity() -> None:
    rows = re.findall(r"^\| \[`(\w+)`\]\((\w+)\.md\) \| ([^|]+) \|", TEXTS["README.md"], re.M)
    expected = {alert: ", ".join(sorted(severities(alert))) for alert in RULES}
    assert {name: severity for name, _, severity in rows} == expected
    assert all(name == link for name, link, _ in rows)
    assert len(rows) == len(RULES)


def severities(alert: str) -> set[str]:
    return {
        "by level"
        if "objective" in rule["labels"] and "tokenpulse_objective_" not in rule["expr"]
        else rule["labels"]["severity"]
        for rule in RULES[alert]
    }


@each_page
def test_a_page_has_all_headings_in_order_and_fits_a_screen(alert: str) -> None:
    text = PAGES[alert]
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.+)$", text, re.M) == HEADINGS
    assert all(part.strip() for part in re.split(r"^## .+$", text, flags=re.M)[1:])
    assert len(text.splitlines()) <= ONE_SCREEN


@each_page
def test_a_page_has_steps_and_something_to_run(alert: str) -> None:
    steps = PAGES[alert].split("## First five minutes\n")[1].split("\n## ")[0]
    numbers = [int(found) for found in re.findall(r"^(\d+)\. ", steps, re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 3
    assert queries(PAGES[alert])


@each_text
def test_metrics_that_are_named_exist(name: str) -> None:
    known = {spec.name for spec in SPECS} | set(INTAKE_LABELS)
    known |= {
        spec.name + suffix
        for spec in SPECS
        if spec.kind == "histogram"
        for suffix in ("_bucket", "_sum", "_count")
    }
    named = set(METRIC.findall(TEXTS[name]))
    assert named <= known, named - known


@each_text
def test_queries_select_by_labels_scopes_and_windows_that_are_published(name: str) -> None:
    labels_of = {spec.name: set(spec.labels) for spec in SPECS} | INTAKE_LABELS
    plan = window_plan(Settings())
    for query in queries(TEXTS[name]):
        for metric, selector in SELECTOR.findall(query):
            matchers = dict(MATCHER.findall(selector))
            assert set(matchers) <= labels_of[metric], query
            windows = matchers.get("window", "").split("|") if "window" in matchers else []
            for window in windows:
                scopes = matchers["scope"].split("|") if "scope" in matchers else []
                assert set(scopes) <= set(plan.get(window, ())), query
                assert scopes or window in (*plan, *BURN_MINUTES), query


@needs_promtool
def test_every_query_parses(tmp_path: Path) -> None:
    rules = [
        {"record": f"page:{name.removesuffix('.md')}:{number}", "expr": query}
        for name, text in TEXTS.items()
        for number, query in enumerate(queries(text))
    ]
    assert len(rules) > len(PAGES)
    file = tmp_path / "runbooks.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_text
def test_commands_of_ours_exist_and_can_be_given_so(name: str) -> None:
    for words in commands(TEXTS[name], "tokenpulse"):
        command: Command = main
        context = Context(main)
        # A group that also does something by itself takes options of its own.
        while isinstance(command, Group) and words and not words[0].startswith("-"):
            found = command.get_command(context, words[0])
            assert found is not None, f"{command.name} has no {words[0]}"
            command, context, words = found, Context(found, parent=context), words[1:]
        if words:  # more than its name: it must parse as it stands
            command.make_context(command.name, [*words], parent=context.parent)


@each_page
def test_a_silence_is_of_this_alert_by_labels_that_it_bears(alert: str) -> None:
    silence = PAGES[alert].split("## Silence it\n")[1].split("\n## ")[0]
    given = [words for words in commands(silence, "amtool") if "add" in words]
    if alert == "TokenpulseWatchdog":
        assert not given
        return
    (words,) = given
    flags = {word.split("=")[0] for word in words if word.startswith("--")}
    assert flags == {"--alertmanager.url", "--duration", "--author", "--comment"}
    matchers = dict(word.split("=", 1) for word in words if re.match("[a-z_]+=", word))
    assert matchers.pop("alertname") == alert
    borne = {label for rule in RULES[alert] for label in (*rule["labels"], *judged_by(rule))}
    assert set(matchers) <= borne, set(matchers) - borne


def judged_by(rule: dict[str, Any]) -> set[str]:
    """Labels that the result of a rule has of its own."""
    groups = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
    return {label.strip() for group in groups for label in group.split(",")}


@each_text
def test_settings_that_are_named_exist(name: str) -> None:
    settings = Settings()
    for span in spans(TEXTS[name]):
        if SETTING.fullmatch(span):
            reduce(getattr, span.split("."), settings)


@cache
def texts_in_the_code() -> str:
    """Return every string of the package that logs; read once for all pages."""
    return "\n".join(
        node.value
        for file in (ROOT / "streams").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@each_text
def test_log_lines_that_are_quoted_are_written(name: str) -> None:
    written = texts_in_the_code()
    for span in spans(TEXTS[name]):
        if "…" in span and not span.startswith("tokenpulse "):
            for piece in span.split("…"):
                assert piece.strip(" ,") in written, span


@each_text
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXTS[name]):
        assert (RUNBOOKS / target).exists(), target


def test_a_halted_partition_has_a_fix_for_every_reason() -> None:
    assert {why.value for why in HaltReason} <= set(spans(PAGES["TokenpulsePartitionHalted"]))


def test_stale_data_have_a_fix_for_every_cause() -> None:
    causes = {rule["labels"]["cause"] for rule in RULES["TokenpulseDataStale"]}
    steps = PAGES["TokenpulseDataStale"].split("## First five minutes\n")[1].split("\n## ")[0]
    assert {"state", "worker"} <= causes <= set(spans(steps))
