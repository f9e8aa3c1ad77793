"""The catalogue follows Prometheus' naming rules, and its document is current."""

import re

import pytest

from exporters.catalogue.cost import MONEY, MONEY_SCOPES
from exporters.catalogue.document import documents
from exporters.catalogue.requests import GROUPS, SPECS
from exporters.catalogue.spec import SCOPE_LABELS, Spec
from tests.support.paths import ROOT


def test_the_documents_in_the_project_are_the_generated_ones() -> None:
    for path, text in documents().items():
        assert (ROOT / path).read_text() == text, f"{path} is out of date; run `make docs`"


def test_every_metric_is_declared_and_documented_once() -> None:
    names = [spec.name for spec in SPECS]
    assert len(names) == len(set(names))
    page = documents()["docs/metrics.md"]
    assert all(page.count(f"| `{name}` |") == 1 for name in names)
    assert sum(len(group.specs) for group in GROUPS) == len(SPECS)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_names_follow_the_rules(spec: Spec) -> None:
    # https://prometheus.io/docs/practices/naming/
    assert re.fullmatch(r"(tokenpulse|gen_ai)_[a-z][a-z0-9_]*", spec.name)
    assert spec.name.endswith("_total") == (spec.kind == "counter")
    assert not spec.name.endswith(("_sum", "_count", "_bucket", "_created"))
    if "timestamp" in spec.name:
        assert spec.name.endswith("_timestamp_seconds")
    assert not re.search(r"_(ms|milliseconds|percent|minutes|hours)(_|$)", spec.name)
    assert spec.kind in ("counter", "gauge", "histogram", "summary")
    for label in spec.labels:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", label)
    assert len(set(spec.labels)) == len(spec.labels)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_every_metric_says_what_it_is_and_how_to_read_it(spec: Spec) -> None:
    for text in (spec.help, spec.meaning):
        assert text
        assert text.endswith(".")
        assert "|" not in text
        assert "\n" not in text


def test_only_what_is_a_quantile_or_a_histogram_uses_their_labels() -> None:
    for spec in SPECS:
        assert ("quantile" in spec.labels) == (spec.kind == "summary")
        assert "le" not in spec.labels


def test_a_scope_is_named_by_labels_that_window_metrics_have() -> None:
    windowed = [spec for spec in SPECS if "scope" in spec.labels]
    assert windowed
    for spec in windowed:
        scopes = MONEY_SCOPES if spec in MONEY.specs else SCOPE_LABELS
        for scope in scopes:
            assert set(SCOPE_LABELS[scope]) <= set(spec.labels)
