"""Files of operators: scalars, repeated keys, errors in one line, and YAML that we write."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from streams.config.settings import load_settings
from streams.config.validation import shown
from streams.config.yaml_file import parse_document, parse_yaml, read_text, to_yaml
from streams.errors import ConfigError
from tests.support import nested_aliases


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("014", "014"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("-3", -3),
        ("0.10", 0.1),
        (".5", 0.5),
        ("1.5e3", 1500.0),
        ("~", None),
        ("", None),
        ("'1'", "1"),
    ],
)
def test_a_plain_scalar_has_the_type_that_a_reader_expects(scalar: str, value: Any) -> None:
    for directive in ("", "%YAML 1.1\n---\n"):
        found = parse_document(f"{directive}key: {scalar}\n", "x.yaml")["key"]
        assert (found, type(found)) == (value, type(value))


def test_exact_numbers_keep_their_digits() -> None:
    text = "a: 0.99999999999999999999\nb: 1.50\n"
    found = parse_document(text, "x.yaml", exact=True)
    assert found == {"a": Decimal("0.99999999999999999999"), "b": Decimal("1.50")}
    assert str(found["b"]) == "1.50"
    assert isinstance(parse_document(text, "x.yaml")["b"], float)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "line 2, column 11: the key c is given twice; keep one"),
        ("? [a]\n: 1", "line 1, column 3: got a list or a mapping as a key; write a text"),
        ("a: !hunter2;x 1", "line 1, column 4: not YAML: could not determine a constructor"),
        ("a: 1" + "0" * 5_000, "line 1, column 4: the number has too many digits; write fewer"),
        ('a: ["b", "\\ud800"]', "line 1, column 10: the text has half a surrogate pair; write"),
        ('"\\udc00x": 1', "line 1, column 1: the text has half a surrogate pair; write"),
        ("[" * 600, "not YAML: maximum recursion depth"),
        ("--- 1\n--- 2", "got 2 documents; write one"),
    ],
)
def test_a_text_that_cannot_be_used_is_one_line(text: str, finding: str) -> None:
    for has_secrets in (False, True):
        with pytest.raises(ConfigError) as caught:
            parse_document(text, "x.yaml", has_secrets=has_secrets)
        line = str(caught.value)
        assert "\n" not in line
        if has_secrets and "not YAML: " in finding:
            assert line.startswith(f"x.yaml: {finding.partition(': ')[0]}")
            assert "hunter2" not in line
        else:
            assert line.startswith(f"x.yaml: {finding}")


def test_a_merge_key_gives_way_to_keys_beside_it() -> None:
    text = "base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}"
    assert parse_document(text, "x.yaml")["own"] == {"a": 1, "b": 3}


def test_a_file_may_begin_with_a_byte_order_mark_and_must_not_be_too_long(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(path) == "a: 1"
    with pytest.raises(ConfigError, match=r"a\.yaml: longer than 3 bytes; "):
        read_text(path, max_bytes=3)


def test_a_setting_that_is_given_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("kafka:\n  topic: a\n  topic: b\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    assert str(caught.value) == f"{path}: line 3, column 3: the key topic is given twice; keep one"
    path.write_text("- kafka")
    with pytest.raises(ConfigError, match="not a mapping; write sections such as `kafka:`"):
        load_settings(path)


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=8),
        st.one_of(
            st.text(st.characters(codec="ascii", min_codepoint=32)),
            st.sampled_from(
                ["no", "Yes", "y", "1:30", "010", "1_000", "0b1", "2026-01-01", "a\nb", "~", "0x1f"]
            ),
            st.integers(),
            st.booleans(),
            st.none(),
        ),
    )
)
def test_what_we_write_is_the_same_to_readers_of_both_versions(document: dict[str, Any]) -> None:
    text = to_yaml(document)
    assert parse_yaml(text, "x.yaml") == [document]
    assert yaml.safe_load(text) == document


@pytest.mark.parametrize(
    "text",
    [
        nested_aliases.LISTS,
        nested_aliases.MERGES,
        "a: &a [*a]",
        "a: &a {b: *a}",
    ],
    ids=["lists", "merge keys", "list inside itself", "mapping inside itself"],
)
def test_aliases_that_stand_for_too_many_values_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="aliases repeat more than 100000 values; write fewer"):
        parse_document(text, "x.yaml")


def test_as_many_aliases_as_people_write_are_read() -> None:
    text = "base: &base {a: 1, b: [2, 3]}\nall:\n" + "- {<<: *base, c: 4}\n" * 1_000
    assert parse_document(text, "x.yaml")["all"] == [{"a": 1, "b": [2, 3], "c": 4}] * 1_000


class Huge(list[int]):
    """Fails if more than its begin is read."""

    def __iter__(self) -> Iterator[int]:
        yield from range(100)
        raise AssertionError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        ("a\nb", r"'a\nb'"),
        ({"a": [1, None, "x", True, Decimal("1.50")]}, "{'a': [1, None, 'x', True, 1.50]}"),
        ("x" * 10**6, f"'{'x' * 59}..."),
        (Huge([1]), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1..."),
        pytest.param(10**5_000, "a number of many digits", id="digits"),
    ],
)
def test_a_value_in_a_message_is_short_whatever_its_size(value: Any, text: str) -> None:
    assert shown(value) == text
