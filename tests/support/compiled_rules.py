"""The rules of all policies in the project, compiled once for the tests of one process."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from alerts.rules.build import build
from slo.policy.loading import load_policies, shipped
from tests.support.paths import TESTS

SHAPES = TESTS / "rules" / "shapes.yaml"


@cache
def rule_files() -> Mapping[str, str]:
    """The text of each file, by its name: of the shipped policies, and of one with each shape."""
    return build(load_policies([*shipped(), SHAPES]))


def alerts_in(text: str) -> list[dict[str, Any]]:
    """The alerting rules of a file."""
    return [rule for rule in _rules_in(text) if "alert" in rule]


def records_in(text: str) -> list[dict[str, Any]]:
    """The recording rules of a file."""
    return [rule for rule in _rules_in(text) if "record" in rule]


def _rules_in(text: str) -> list[dict[str, Any]]:
    return [rule for group in read_yaml(text)["groups"] for rule in group["rules"]]


def read_yaml(text: str) -> Any:
    """A YAML text, read by the parser in C: that in Python takes five times as long."""
    return yaml.load(text, Loader=yaml.CSafeLoader)
