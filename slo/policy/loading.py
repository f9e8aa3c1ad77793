"""Policies from YAML files; every finding is one line: `path: key: value; fix`.

A shell that reads files.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from slo.policy.indicators import KINDS
from slo.policy.policy import (
    ErrorBudgetObjective,
    LatencyThresholdObjective,
    Policy,
    ShareThresholdObjective,
)
from streams.config.validation import UNKNOWN_KIND, findings, shown
from streams.config.yaml_file import parse_document, read_text
from streams.errors import ConfigError

# Larger than any policy: a wrong path must not fill the memory.
MAX_BYTES = 1_000_000
_OBJECTIVE_KEYS = {
    key
    for kind in (ErrorBudgetObjective, LatencyThresholdObjective, ShareThresholdObjective)
    for key in kind.model_fields
}


class PolicyError(ConfigError):
    """A policy that cannot be used, one line per finding."""


def read_document(text: str, origin: str) -> dict[str, Any]:
    """Return the only document of a YAML text; numbers keep the digits they were written with.

    `origin` names the text in errors. Raises PolicyError.
    """
    document = parse_document(text, origin, error=PolicyError, exact=True)
    if not isinstance(document, dict):
        raise PolicyError(
            f"{origin}: got {shown(document)}; write a document that begins with `version: 1`"
        )
    return document


def read_policy_text(path: Path) -> str:
    """Return the text of a policy file. Raises PolicyError."""
    return read_text(path, error=PolicyError, max_bytes=MAX_BYTES)


def read_policy(text: str, origin: str) -> Policy:
    """Return a policy from its text; `origin` names it in errors. Raises PolicyError."""
    return as_policy(read_document(text, origin), origin)


def as_policy(document: dict[str, Any], origin: str) -> Policy:
    """Return a policy from plain data, as YAML gives it. Raises PolicyError."""
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        unknown_key = "no such key here; docs/policies.md lists them all"
        details = chain.from_iterable(map(_with_kind, error.errors()))
        raise PolicyError("\n".join(findings(details, origin, unknown_key, document))) from error


def _with_kind(finding: ErrorDetails) -> Iterator[ErrorDetails]:
    """Yield the finding; if it is an unknown kind of indicator, at that key.

    Without a kind the other keys of the objective are not read: those of no kind follow.
    """
    # Pydantic places this finding at the whole objective and names classes of ours.
    if finding["type"] != "union_tag_not_found" or not isinstance(finding["input"], dict):
        yield finding
        return
    indicator = finding["input"].get("indicator")
    yield {
        **finding,
        "type": UNKNOWN_KIND,
        "loc": (*finding["loc"], "indicator.kind"),
        "input": indicator.get("kind") if isinstance(indicator, dict) else indicator,
        "msg": f"use one of {', '.join(KINDS)}",
    }
    for key, value in finding["input"].items():
        if key not in _OBJECTIVE_KEYS:
            yield {
                **finding,
                "type": "extra_forbidden",
                "loc": (*finding["loc"], str(key)),
                "input": value,
            }


def shipped() -> dict[str, Traversable]:
    """Return the policies of the package, by name: `default` and the presets."""
    folder = resources.files("slo") / "policies"
    entries = [*folder.iterdir(), *(folder / "presets").iterdir()]
    return {
        entry.name.removesuffix(".yaml"): entry
        for entry in sorted(entries, key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    }


@cache
def _shipped_policy(name: str) -> Policy | None:
    """Return the policy of the package with this name; None if there is none."""
    # Read once a process: neither a file of the package nor a policy changes.
    found = shipped().get(name)
    return None if found is None else read_policy(found.read_text(encoding="utf-8"), name)


def load_policy(path_or_name: str | Path) -> Policy:
    """Read a policy from a file, or a shipped one by its name. Raises PolicyError."""
    if (policy := _shipped_policy(str(path_or_name))) is not None:
        return policy
    path = Path(path_or_name)
    # Unlike Path.exists, this is False for a name that is too long.
    if not os.path.exists(path):
        raise PolicyError(
            f"{path}: no such file; give the path of a policy, or one of the shipped ones: "
            f"{', '.join(shipped())}"
        )
    return read_policy(read_policy_text(path), str(path))


def load_policies(paths_or_names: Iterable[str | Path]) -> tuple[Policy, ...]:
    """Return policies that are to be in force together; all names must differ.

    Raises PolicyError with the findings of all of them.
    """
    policies, problems = [], []
    origin_of: dict[str, str] = {}
    for one in paths_or_names:
        try:
            policy = load_policy(one)
        # The next files are read all the same, so that one run shows all findings.
        except PolicyError as error:
            problems.append(str(error))
            continue
        # The name is a label of all metrics of the policy: two of one name could not be told apart.
        if policy.name in origin_of:
            other = origin_of[policy.name]
            problems.append(f"{one}: name: got {policy.name!r}, as in {other}; rename one")
        origin_of[policy.name] = str(one)
        policies.append(policy)
    if problems:
        raise PolicyError("\n".join(problems))
    return tuple(policies)
