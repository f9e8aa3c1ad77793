"""The files that operators write: their text, and the YAML in it.

The scalars are those of YAML 1.2's core schema in decimal notation, so `no` is a text and never
False, and a date is a text. A repeated key is an error: one of its two values would be lost
silently. Each error is one line: `origin: line: problem; fix`.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import VersionedResolver

from streams.errors import ConfigError, one_line

MAX_BYTES = 20_000_000
_MAX_DIGITS = 1_000
# Values that aliases and merge keys add to those that are written. A few lines of nested aliases
# can stand for billions, which would fill the memory.
_MAX_REPEATED = 100_000

_TAG = "tag:yaml.org,2002:"
# Tag, pattern, and the characters with which such a scalar can begin; all further scalars are text.
_SCALARS = (
    ("null", r"|~|null|Null|NULL", ("", "~", "n", "N")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", tuple("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?", tuple("-+.0123456789")),
    ("merge", "<<", ("<",)),
)


class _Resolver(VersionedResolver):
    """Decides which type a plain scalar has."""

    _by_first_character: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}
    for _name, _pattern, _first in _SCALARS:
        for _character in _first:
            _by_first_character.setdefault(_character, []).append(
                (_TAG + _name, re.compile(rf"(?:{_pattern})\Z"))
            )

    @property
    def versioned_resolver(self) -> Any:
        """Return tag and pattern by first character, whatever the document's `%YAML` line is."""
        return self._by_first_character


class _ValueProblem(ConstructorError):
    """A key or number that cannot be used; its message contains the fix, and no value."""


class _Constructor(SafeConstructor):
    """Builds plain data, and refuses repeated keys and aliases that stand for too many values."""

    def construct_document(self, node: Any) -> Any:
        """Return the data of a document. Raises _ValueProblem for too much that is repeated."""
        if _repeated(node, {}) > _MAX_REPEATED:
            problem = f"aliases repeat more than {_MAX_REPEATED} values; write fewer aliases"
            raise _ValueProblem(None, None, problem, node.start_mark)
        return super().construct_document(node)

    def check_mapping_key(
        self, node: MappingNode, key_node: Any, mapping: Mapping[Any, Any], key: Any, value: Any
    ) -> bool:
        """Return True. Raises _ValueProblem for a key that is repeated, or no scalar."""
        if not isinstance(key_node, ScalarNode):
            problem = "got a list or a mapping as a key; write a text"
        elif key in mapping:
            problem = f"the key {key} is given twice; keep one"
        else:
            return True
        raise _ValueProblem(None, None, problem, key_node.start_mark)

    def construct_yaml_str(self, node: Any) -> str:
        """Return a text. Raises _ValueProblem for half a surrogate pair, which no file can hold."""
        text: str = super().construct_yaml_str(node)
        if any("\ud800" <= character <= "\udfff" for character in text):
            problem = "the text has half a surrogate pair; write the character itself"
            raise _ValueProblem(None, None, problem, node.start_mark)
        return text

    def construct_yaml_int(self, node: Any) -> int:
        """Return a whole number. Raises _ValueProblem for more digits than Python converts."""
        digits = self.construct_scalar(node)
        if len(digits) > _MAX_DIGITS:
            problem = "the number has too many digits; write fewer"
            raise _ValueProblem(None, None, problem, node.start_mark)
        return int(digits)


def _repeated(node: Any, sizes: dict[Any, int]) -> int:
    """Return how many values of a node are repeated through aliases, at least.

    `sizes`: the values below each visited node, as data without aliases would have them.
    """
    repeated = 0
    sizes[node] = _MAX_REPEATED + 1  # until its size is known: a node inside itself has no end
    size = 1
    for child in _children(node):
        if child in sizes:
            repeated += sizes[child]
        else:
            repeated += _repeated(child, sizes)
        size += sizes[child]
    # A larger number would only grow; the document is refused anyway.
    sizes[node] = min(size, _MAX_REPEATED + 1)
    return repeated


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, SequenceNode):
        yield from node.value


class _ExactConstructor(_Constructor):
    """Builds Decimals instead of floats, so that no digit of a written number is lost."""

    def decimal(self, node: Any) -> Decimal:
        """Return a number with all its digits."""
        return Decimal(self.construct_scalar(node))


_Constructor.add_constructor(f"{_TAG}int", _Constructor.construct_yaml_int)
_Constructor.add_constructor(f"{_TAG}str", _Constructor.construct_yaml_str)
_ExactConstructor.add_constructor(f"{_TAG}float", _ExactConstructor.decimal)


# Texts that YAML 1.1, which Kubernetes reads, takes for truth values and numbers.
_AMBIGUOUS = re.compile(
    r"(?i:y|n|yes|no|on|off)"
    r"|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])*(?:\.[0-9_]*)?|[-+]?0b[01_]+"
)


class _Representer(SafeRepresenter):
    """Writes texts of several lines, such as expressions, line by line."""

    def text(self, text: str) -> ScalarNode:
        """Return the node of a text, in quotes if YAML 1.1 would read another type."""
        style = "|" if "\n" in text else "'" if _AMBIGUOUS.fullmatch(text) else None
        return self.represent_scalar(f"{_TAG}str", text, style=style)


_Representer.add_representer(str, _Representer.text)


def read_text(
    path: Path,
    origin: str | None = None,
    *,
    fix: str = "check the path",
    error: type[ConfigError] = ConfigError,
    max_bytes: int = MAX_BYTES,
) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    `origin` names the file in errors, such as `setting: path`; without it, the path does. Raises
    `error` if the file cannot be read.
    """
    origin = origin or str(path)
    try:
        if path.is_file() and path.stat().st_size > max_bytes:
            raise error(f"{origin}: longer than {max_bytes} bytes; give another file")
        return path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise error(f"{origin}: cannot be read: {problem.strerror}; {fix}") from problem
    except UnicodeDecodeError as problem:
        raise error(f"{origin}: not UTF-8; save the file as UTF-8 text") from problem
    except ValueError as problem:
        raise error(f"{origin}: is no name of a file; {fix}") from problem


def parse_yaml(
    text: str,
    origin: str,
    *,
    error: type[ConfigError] = ConfigError,
    exact: bool = False,
    has_secrets: bool = False,
) -> list[Any]:
    """Return the documents of a YAML text as plain data.

    `origin` names the text in errors. `exact`: numbers with a point become Decimal, else float.
    `has_secrets`: the parser's message, which quotes the text, is left out of errors. Raises
    `error` if the text is not YAML, or a key is given twice.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver = _Resolver
    yaml.Constructor = _ExactConstructor if exact else _Constructor
    yaml.composer.warn_double_anchors = False  # the warning would quote the text
    try:
        return list(yaml.load_all(text))
    except (YAMLError, ValueError, RecursionError) as problem:
        raise error(f"{origin}: {_finding(problem, has_secrets)}") from (
            None if has_secrets else problem
        )


def _finding(problem: Exception, has_secrets: bool) -> str:
    """Return the place, the problem and its fix in one line."""
    place, reason = "", one_line(problem)
    if isinstance(problem, MarkedYAMLError):
        mark = problem.problem_mark or problem.context_mark
        if mark is not None:
            place = f"line {mark.line + 1}, column {mark.column + 1}: "
        reason = one_line(problem.problem or problem.context)
    if isinstance(problem, _ValueProblem):
        return place + reason
    if has_secrets:
        return f"{place}not YAML; correct this place; text that begins with a sign needs quotes"
    return f"{place}not YAML: {reason}; correct this place"


def parse_document(
    text: str,
    origin: str,
    *,
    error: type[ConfigError] = ConfigError,
    exact: bool = False,
    has_secrets: bool = False,
) -> Any:
    """Return the only document of a YAML text, None if it is empty.

    The parameters are those of `parse_yaml`. Raises `error` if there are several documents, too.
    """
    documents = parse_yaml(text, origin, error=error, exact=exact, has_secrets=has_secrets)
    if len(documents) > 1:
        raise error(f"{origin}: got {len(documents)} documents; write one, without a line `---`")
    return documents[0] if documents else None


def to_yaml(document: Any, width: int = 100) -> str:
    """Return plain data as YAML, keys in their order; lines are wrapped at `width` characters."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    yaml.width = width
    stream = StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()
