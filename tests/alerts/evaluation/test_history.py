"""Ranges of past samples: the values of `increase`, `rate` and `deriv`, as Prometheus has them."""

import random
from pathlib import Path

import pytest

from alerts.evaluation.evaluator import RuleEvaluator
from alerts.evaluation.expressions import parse
from alerts.evaluation.history import EVERY_S, History
from alerts.rules.model import Alert, Group
from slo.alert_state import Samples, sample_key
from tests.support.promtool import STEP_S, check_values, needs_promtool, series_text

STEPS = 120
EXPRESSIONS = ("increase(a[5m])", "rate(a[100s])", "deriv(a[10m])")


def counter(chance: random.Random) -> list[float | None]:
    """Return a counter that rises now and then, begins again at zero, and disappears."""
    values: list[float | None] = []
    count = chance.choice([0, 3, 1_000])
    while len(values) < STEPS:
        event = chance.random()
        if event < 0.1:
            values += [None] * chance.choice([1, 5, 60])
        elif event < 0.2:
            count = chance.choice([0, 2])
        else:
            count += chance.choice([0, 1, 40])
        values += [count] * chance.choice([1, 2, 9])
    return values[:STEPS]


@needs_promtool
@pytest.mark.parametrize("seed", range(4))
def test_values_of_ranges_are_those_of_prometheus(seed: int, tmp_path: Path) -> None:
    chance, history = random.Random(seed), History()
    names = [f"c{number}" for number in range(12)]
    texts = [text.replace("a[", f"{name}[") for name in names for text in EXPRESSIONS]
    expressions = [parse(text, history) for text in texts]
    series = {name: counter(chance) for name in names}
    expected: list[tuple[str, float, float | None]] = []
    for step in range(STEPS):
        samples: Samples = {
            name: {(): value}
            for name, values in series.items()
            if (value := values[step]) is not None
        }
        history.add(samples, step * STEP_S)
        if step % 10 == 3:
            expected += [
                (one.text, step * STEP_S, one.vector(samples, step * STEP_S).get(()))
                for one in expressions
            ]
    assert len({value for *_, value in expected}) > 50
    inputs = [{"series": name, "values": series_text(values)} for name, values in series.items()]
    check_values(tmp_path, inputs, expected)


def test_rows_and_evaluations_are_a_few_seconds_apart() -> None:
    alert = Alert("A", "page", "increase(a[1m]) > 0", "", "", "", "")
    evaluator = RuleEvaluator([Group("g", (alert,))])
    values = [
        [state.value for state in evaluator.evaluate({"a": {(): float(at * at)}}, at)]
        for at in range(100)
    ]
    assert len(evaluator._history._metrics["a"].rows) == 60 / EVERY_S + 1
    changes = [at for at in range(1, 100) if values[at] != values[at - 1]]
    assert changes == list(range(5, 100, 5))


def test_series_that_disappeared_leave_the_history() -> None:
    history = History()
    rise = parse("increase(a[1m])", history)
    for at in range(0, 8_000, 10):
        history.add({"a": {sample_key({"worker": f"w{at // 20}"}): float(at)}}, at)
    assert len(history._metrics["a"].columns) < 120
    assert set(rise.vector({}, 7_990)) == {
        sample_key({"worker": name}) for name in ("w397", "w398", "w399")
    }
