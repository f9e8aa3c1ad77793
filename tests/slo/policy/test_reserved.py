"""Names that the workers reserve for policies."""

from slo.policy.loading import read_policy
from slo.policy.reserved import reserved_names
from streams.state.registry import ReservedNames

POLICY = """\
version: 1
name: one
objectives:
  - name: by-customer
    scope: {customer: [acme, globex], model: large}
    target: 99 %
    period: {rolling_days: 30}
    indicator: {kind: request_ratio}
  - name: by-tier
    scope: {requested_service_tier: priority, service_tier: flex, per: channel}
    exclusions:
      - {where: {region: test-1}, author: ops, reason: a region for tests}
    target: 99 %
    period: {rolling_days: 30}
    indicator: {kind: request_ratio}
"""


def test_all_names_of_scopes_and_exclusions_are_reserved() -> None:
    other = POLICY.replace("large", "small").replace("name: one", "name: two")
    policies = [read_policy(text, "policy") for text in (POLICY, other)]
    assert reserved_names(policies) == ReservedNames(
        model=frozenset({"large", "small"}),
        region=frozenset({"test-1"}),
        service_tier=frozenset({"priority", "flex"}),
        customer=frozenset({"acme", "globex"}),
    )


def test_a_policy_of_the_fleet_reserves_nothing() -> None:
    text = POLICY[POLICY.index("objectives") :].split("  - name: by-tier")[0]
    fleet = text.replace("{customer: [acme, globex], model: large}", "fleet")
    policy = read_policy(f"version: 1\nname: fleet\n{fleet}", "policy")
    assert reserved_names([policy]) == ReservedNames()
