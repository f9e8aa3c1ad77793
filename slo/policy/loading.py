"""Policies from YAML files; every finding is one line: `path: key: found; cure`.

A shell that reads files. Numbers keep the digits they were written with, and only `true` and
`false` are booleans, so that a region called `no` stays one.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from slo.policy.indicators import KINDS
from slo.policy.policy import Policy
from streams.errors import ConfigError

MAX_BYTES = 1_000_000
_LONGEST_SHOWN = 60


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
            found = " ".join(str(error).split())
        raise PolicyError(f"{origin}: not YAML: {found}; correct this place") from error


def read_document(text: str, origin: str) -> dict[str, Any]:
    """The one document of a YAML text. Raises PolicyError."""
    documents = read_yaml(text, origin)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise PolicyError(
            f"{origin}: got {_shown(documents[0]) if documents else 'nothing'}; write one document "
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
        raise PolicyError(
            "\n".join(findings(error, document, origin, "docs/policies.md"))
        ) from error


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


def findings(error: ValidationError, document: Any, origin: str, guide: str) -> Iterator[str]:
    """What is wrong with a document, a line each; `guide`: the page that lists its keys."""
    for finding in error.errors():
        given = finding["input"]
        where = _place(finding["loc"], document, finding["type"] == "missing")
        found = f"got {_shown(given)}; "
        cure = finding["msg"].removeprefix("Value error, ").replace("Input", "it", 1)
        match finding["type"]:
            case "missing":
                found, cure = "got nothing; ", "this key is required"
            case "extra_forbidden":
                cure = f"no such key here; {guide} lists them all"
            case "union_tag_not_found" if isinstance(given, dict):
                indicator = given.get("indicator")
                kind = indicator.get("kind") if isinstance(indicator, dict) else indicator
                where += ".indicator.kind"
                found, cure = f"got {_shown(kind)}; ", f"use one of {', '.join(KINDS)}"
            case "zoneinfo_str":
                cure = "use an IANA name such as Europe/Berlin"
            case "model_attributes_type" | "model_type" | "dict_type" | "union_tag_not_found":
                cure = "write keys here"
            case "too_short" if given:
                continue  # pydantic also counts only the entries that were right
            case "too_short":
                cure = "write at least one"
            case "value_error" if isinstance(given, dict):
                found = ""
        yield ": ".join(part for part in (origin, where, found + cure) if part)


def _place(loc: Sequence[str | int], document: Any, is_missing: bool) -> str:
    """Where a finding is, in keys: what pydantic adds about its own unions is left out."""
    at, keys = document, []
    for index, part in enumerate(loc):
        is_key = isinstance(at, dict) and part in at
        if is_key or (isinstance(at, list) and isinstance(part, int)):
            at = at[part]
        elif not (is_missing and index == len(loc) - 1):
            continue
        keys.append(f"[{part}]" if isinstance(part, int) else f".{part}")
    return "".join(keys).removeprefix(".")


def _shown(found: Any) -> str:
    if found is None:
        return "nothing"
    text = repr(found) if isinstance(found, str) else str(found)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
