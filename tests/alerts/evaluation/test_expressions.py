"""PromQL of the compiled rules: what is understood, and what its values are."""

import pytest

from alerts.evaluation.evaluator import RuleEvaluator, request_groups
from alerts.evaluation.expressions import SharedPart, parse
from slo.alert_state import sample_key
from slo.policy.loading import load_policies, shipped


def test_every_rule_of_every_shipped_policy_is_understood() -> None:
    shapes = [*shipped(), "tests/rules/shapes.yaml"]
    rules = RuleEvaluator(request_groups(load_policies(shapes))).rules
    assert len(rules) > 30
    for rule in rules:
        if rule.alert.name in (
            "TokenpulseCacheHitLow",
            "TokenpulseTokenVolumeDrop",
            "TokenpulseOutage",
        ):
            assert not rule.expression.is_ceiling
        if rule.alert.name == "TokenpulseErrorBudgetBurn":
            assert rule.expression.is_ceiling


@pytest.mark.parametrize(
    "text",
    [
        *("rate(a[5m]) > 0", "a > bool 1", "a +", "(a", "a offset 2m", "stddev(a)"),
        *("a and ignoring (m) b", "a / on (m) group_right () b", "a / on (m) group_left (w) b"),
        *("a / on (m) b", "a or on (m) b"),
        *("sum without (m) (a)", "absent(a)", '{m="x"}', "a @ 5"),
    ],
)
def test_other_promql_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"^['\"].*: "):
        parse(text)


def test_an_expression_names_also_the_metrics_of_the_parts_that_it_shares() -> None:
    shared: dict[str, SharedPart] = {}
    parse("sum by (m) (a) / b > 1", shared=shared)
    parts = dict(shared)
    again = parse("(sum by (m) (a)) / b < c", shared=shared)
    assert [selector.metric for selector in again.selectors] == ["a", "b", "c"]
    assert parts.items() < shared.items()


def test_a_record_that_reads_the_clock_or_a_range_is_refused() -> None:
    for recorded in ("time() - a", "rate(a[5m])"):
        with pytest.raises(ValueError, match="cannot evaluate r"):
            parse("sum(r) > 0", records={"r": recorded})


def test_vectors_meet_as_in_prometheus() -> None:
    samples = {
        "a": {sample_key({"m": "x", "w": "1"}): 3.0, sample_key({"m": "x", "w": "2"}): 5.0},
        "b": {sample_key({"m": "x"}): 10.0, sample_key({"m": "y"}): 4.0},
    }

    def found(text: str) -> dict[str, float]:
        return {dict(key).get("m", ""): value for key, value in parse(text).vector(samples).items()}

    assert found("max by (m) (a)") == {"x": 5}
    assert found('sum by (m) (a{w=~"1|3"}) / b') == {"x": 0.3}
    assert found("b > 4") == {"x": 10}
    assert found("b and max by (m) (a)") == {"x": 10}
    assert found("b unless max by (m) (a)") == {"y": 4}
    assert found("max by (m) (a) or 0 * b") == {"x": 5, "y": 0}
    assert found("b >= max by (m) (a)") == {"x": 10}
    assert found("sum(round(a * 0.5))") == {"": 2 + 3}
    assert found("count(a > 3)") == {"": 1}
    assert found("sum(topk(1, b))") == {"": 10}
    assert found("sum(topk(2, a or b))") == {"": 10 + 5}
    assert found("max by (m) (topk by (m) (1, 0 - a))") == {"x": -3}
    assert found("b / (0 * b) > 1") == {"x": float("inf"), "y": float("inf")}
    assert found("b > 1 and b < 5 or b > 9") == {"x": 10, "y": 4}
    assert found('b{m!="x"}') == {"y": 4}
    assert found('b{m!~"x|z"}') == {"y": 4}
    assert found("a > on (m) group_left () (0 * b)") == {"x": 5}
    assert found('a{w="1"} / on (m) group_left () b') == {"x": 0.3}
    assert found("b and on (m) a") == {"x": 10}
    assert found("b unless on (m) a") == {"y": 4}
    with pytest.raises(ValueError, match="several elements of the right side"):
        found("b > on (m) group_left () a")
    assert found("b - 1 + 2") == {"x": 11, "y": 5}
    assert found("b == 4") == {"y": 4}
    assert found("min(b)") == {"": 4}
    assert found("sum(c) or vector(0)") == {"": 0}
    assert found("a >= scalar(sum(a)) - 3") == {"x": 5}
    assert found("a > 2 * scalar(absent_metric)") == {}
    assert parse("time() - b > 3").vector(samples, 10) == {sample_key({"m": "y"}): 6}


def test_text_that_needs_escapes_is_matched() -> None:
    key = sample_key({"m": 'a"b\\c.d'})
    for text in (r'a{m="a\"b\\c.d"}', r'a{m=~"a\"b\\\\c[.]d"}'):
        assert parse(text).vector({"a": {key: 1.0, sample_key({"m": "x"}): 1.0}}) == {key: 1.0}


def test_a_record_has_the_value_of_the_same_instant() -> None:
    records = {"m:a:sum": "sum by (m) (a)", "all:a:sum": "sum(m:a:sum)"}
    samples = {"a": {sample_key({"m": m, "w": w}): 2.0 for m in "xy" for w in "12"}}
    condition = parse("m:a:sum / on () group_left () all:a:sum > 0.4", records=records)
    assert condition.vector(samples) == {sample_key({"m": m}): 0.5 for m in "xy"}
    assert condition.metrics == {"a"}
    for text in ('m:a:sum{m="x"} > 1', "m:a:sum offset 5m > 1"):
        with pytest.raises(ValueError, match="cannot evaluate"):
            parse(text, records=records)
