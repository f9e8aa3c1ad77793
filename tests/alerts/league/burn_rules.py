"""Burn-rate rules of two well-known generators, to be evaluated on the same series.

Both compile multi-window, multi-burn-rate alerts of the Google SRE Workbook. Their factors,
windows and waits are taken over by hand, their objectives are those of the default policy: 99.9 %
of the requests succeed, 95 % of the first tokens come within 300 ms, and 95 % of the output tokens
take at most 50 ms. The burn rates themselves are counted by Tokenpulse. The objectives lie over
30 days for sloth and over 28 for pyrra, as each has them in its examples: their windows are then
those that Tokenpulse counts.

Sources, read 2026-11: https://sloth.dev (slok/sloth, internal/alert/windows/google-30d.yaml) and
https://github.com/pyrra-dev/pyrra (slo/rules.go, function Windows).
"""

from typing import Any

from alerts.rules.model import Alert, Group
from exporters.catalogue import objectives as catalogue
from slo.policy.loading import as_policy
from slo.policy.policy import Policy

# long window, short window, factor, seconds for which both must hold; of pages only
SLOTH = (("1h", "5m", 14.4, 0), ("6h", "30m", 6.0, 0))
PYRRA = (("1h", "5m", 14.0, 120), ("6h", "30m", 7.0, 900))


def compared_policy() -> Policy:
    """Return the default policy's objectives of requests, each as a share with a target."""

    def objective(name: str, target: str, **indicator: Any) -> dict[str, Any]:
        return {
            "name": name,
            "indicator": indicator,
            "target": target,
            "period": {"rolling_days": 30},
        }

    return as_policy(
        {
            "version": 1,
            "name": "compared",
            "objectives": [
                objective("uptime", "99.9%", kind="request_ratio"),
                objective("ttft", "95%", kind="latency_ratio", measure="ttft", limit="300ms"),
                objective("tpot", "95%", kind="latency_ratio", measure="tpot", limit="50ms"),
            ],
        },
        "the compared objectives",
    )


def burn_groups(policy: Policy) -> list[Group]:
    """Return the paging rules of both, a group each; the label `generator` tells them apart."""
    return [
        Group(
            generator,
            tuple(
                _alert(generator, policy.name, objective.name, *window)
                for objective in policy.objectives
                for window in windows
            ),
        )
        for generator, windows in (("sloth", SLOTH), ("pyrra", PYRRA))
    ]


def _alert(
    generator: str, policy: str, objective: str, long: str, short: str, factor: float, for_s: int
) -> Alert:
    def burn(window: str) -> str:
        labels = f'policy="{policy}",objective="{objective}",window="{window}"'
        return f"max({catalogue.BURN_RATE.name}{{{labels}}}) > {factor}"

    return Alert(
        name=f"{generator}-{objective}",
        severity="page",
        expr=f"{burn(long)}\nand {burn(short)}",
        summary="",
        description="",
        value="",
        target="",
        for_s=for_s,
        labels={"generator": generator},
    )
