"""Policies from YAML files; every finding is one line: `path: key: found; cure`.

A shell that reads files. Numbers keep the digits they were written with, and only `true` and
`false` are booleans, so that a region called `no` stays one.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from slo.policy.indicators import KINDS
from slo.policy.policy import Policy
from streams.config.validation import UNKNOWN_KIND, findings, shown
from streams.errors import ConfigError, one_line

MAX_BYTES = 1_000_000


class PolicyError(ConfigError):
    """A policy that cannot be used, one line per finding."""


class _Loader(yaml.SafeLoader):
    """YAML's mappings, lists and texts; the plain scalars of YAML 1.2, floats as Decimal."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A key that stands twice is an error: one of the two would be lost in silence."""
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, str):
                problem = f"got the key {key!r}; keys are text"
            elif key in found:
                problem = f"{key} stands here twice; keep one"
            if problem:
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            found[key] = self.construct_object(value_node, deep=deep)
        return found

    def decimal(self, node: yaml.ScalarNode) -> Decimal:
        """A number with all its digits."""
        return Decimal(str(node.value))


_Loader.yaml_implicit_resolvers = {}  # instead of YAML 1.1's, where `no` is false
for _tag, _pattern, _first in (
    ("null", r"|~|null|Null|NULL", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.decimal)


def read_yaml(text: str, origin: str) -> list[Any]:
    """The documents of a YAML text; `origin` names it in errors. Raises PolicyError."""
    try:
        return list(yaml.load_all(text, _Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            found = f"line {error.problem_mark.line + 1}: {error.problem}"
        else:
            found = one_line(error)
        raise PolicyError(f"{origin}: not YAML: {found}; correct this place") from error


def read_document(text: str, origin: str) -> dict[str, Any]:
    """The one document of a YAML text. Raises PolicyError."""
    documents = read_yaml(text, origin)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise PolicyError(
            f"{origin}: got {shown(documents[0]) if documents else 'nothing'}; write one document "
            "that begins with `version: 1`"
        )
    return documents[0]


def read_text(path: Path, kind: str = "policy file") -> str:
    """A file's text; `kind` names in errors what it should be. Raises PolicyError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PolicyError(f"{path}: longer than {MAX_BYTES} bytes; this is no {kind}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8; save the file as UTF-8 text") from error


def read_policy(text: str, origin: str) -> Policy:
    """A policy from its text; `origin` names it in errors. Raises PolicyError."""
    return as_policy(read_document(text, origin), origin)


def as_policy(document: dict[str, Any], origin: str) -> Policy:
    """A policy from plain data, as YAML gives it. Raises PolicyError."""
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        unknown_key = "no such key here; docs/policies.md lists them all"
        details = map(_with_kind, error.errors())
        raise PolicyError("\n".join(findings(details, origin, unknown_key, document))) from error


def _with_kind(finding: ErrorDetails) -> ErrorDetails:
    """Return the finding; if it is an unknown kind of indicator, place it at that key."""
    if finding["type"] != "union_tag_not_found" or not isinstance(finding["input"], dict):
        return finding
    indicator = finding["input"].get("indicator")
    return {
        **finding,
        "type": UNKNOWN_KIND,
        "loc": (*finding["loc"], "indicator.kind"),
        "input": indicator.get("kind") if isinstance(indicator, dict) else indicator,
        "msg": f"use one of {', '.join(KINDS)}",
    }


def shipped() -> dict[str, Traversable]:
    """The policies that come with the package, by name: `default` and the presets."""
    folder = resources.files("slo") / "policies"
    entries = [*folder.iterdir(), *(folder / "presets").iterdir()]
    return {
        entry.name.removesuffix(".yaml"): entry
        for entry in sorted(entries, key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    }


def load_policy(path_or_name: str | Path) -> Policy:
    """Read a policy from a file, or a shipped one by its name. Raises PolicyError."""
    found = shipped().get(str(path_or_name))
    if found is not None:
        return read_policy(found.read_text(encoding="utf-8"), str(path_or_name))
    path = Path(path_or_name)
    if not path.exists():
        raise PolicyError(
            f"{path}: no such file; give the path of a policy, or one of the shipped ones: "
            f"{', '.join(shipped())}"
        )
    return read_policy(read_text(path), str(path))


def load_policies(paths_or_names: Iterable[str | Path]) -> tuple[Policy, ...]:
    """Policies that are to be in force together: all readable, all names different.

    Raises PolicyError with the findings of all of them.
    """
    policies, problems = [], []
    origin_of: dict[str, str] = {}
    for one in paths_or_names:
        try:
            policy = load_policy(one)
        except PolicyError as error:
            problems.append(str(error))
            continue
        if policy.name in origin_of:
            other = origin_of[policy.name]
            problems.append(f"{one}: name: got {policy.name!r}, as in {other}; rename one")
        origin_of[policy.name] = str(one)
        policies.append(policy)
    if problems:
        raise PolicyError("\n".join(problems))
    return tuple(policies)
