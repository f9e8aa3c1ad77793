"""Policies that a test writes."""

from typing import Any

from tests.support.paths import TESTS

EVERY_KEY = TESTS / "policies" / "every-key.yaml"


def one(**changes: Any) -> dict[str, Any]:
    """A policy of one good objective, changed; None removes a key."""
    entry = {
        "name": "uptime",
        "indicator": {"kind": "request_ratio"},
        "target": "99.9%",
        "period": {"calendar": "month"},
    } | changes
    entry = {key: value for key, value in entry.items() if value is not None}
    return {"version": 1, "name": "test", "objectives": [entry]}


def acme_contract(*further: dict[str, Any]) -> dict[str, Any]:
    """A policy that promises the customer acme 99.9 % with a credit, and `further` objectives."""
    policy = one(
        scope={"customer": "acme"},
        sla={"credit_tiers": [{"below": "99.9%", "credit": "10%"}]},
    )
    return policy | {"name": "acme", "objectives": [*policy["objectives"], *further]}
