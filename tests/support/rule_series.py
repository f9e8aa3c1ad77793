"""Series of the rule tests, as `promtool test rules` writes them."""

from collections.abc import Mapping
from typing import NamedTuple

STEP_S = 30
STEPS = 80
AT = "40m"  # = STEPS * STEP_S

Labels = Mapping[str, str]
Series = Mapping[str, str]


class Case(NamedTuple):
    """What is seen until AT, and whether the rule fires then."""

    why: str
    fires: bool
    series: Series


def held(value: float | str) -> str:
    return f"{value}+0x{STEPS}"


def then(before: float | str, after: float | str, for_steps: int = 19) -> str:
    """A value that changes before the end; 19 steps are more than nine minutes."""
    return f"{before}+0x{STEPS - for_steps} {after}+0x{for_steps - 1}"


def ended(value: float | str) -> str:
    """A series that stops, longer ago than Prometheus looks back and alerts are kept firing."""
    return f"{value}+0x{STEPS - 30} _x30"


def named(name: str, **labels: str) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
