"""Checksums: older programs read sealed values as before, and no wrong bit passes."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.checksums import DamagedError, check_array, check_json, seal_array, seal_json

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-(2**40), 2**40) | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def read_json(data: bytes) -> Any:
    check_json("w-1", data)
    return msgspec.json.decode(data)


@given(st.lists(VALUES, min_size=1, max_size=40))
def test_a_sealed_array_has_the_same_items_and_one_more(items: list[Any]) -> None:
    sealed = seal_array("meta", msgspec.msgpack.encode(items))
    assert check_array("meta", sealed)
    *read, seal = msgspec.msgpack.decode(sealed)
    assert read == items
    assert seal.code == ord("C")


@given(st.lists(VALUES, min_size=1, max_size=20), st.data())
def test_a_wrong_bit_of_a_sealed_array_is_noticed_or_changes_no_item(
    items: list[Any], data: st.DataObject
) -> None:
    sealed = bytearray(seal_array("s:10:0", msgspec.msgpack.encode(items)))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    try:
        # Without the mark of a checksum it may still be an array, with the same items.
        if not check_array("s:10:0", bytes(sealed)):
            assert msgspec.msgpack.decode(bytes(sealed))[:-1] == items
    except (DamagedError, msgspec.DecodeError):
        pass


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9)), st.data())
def test_a_json_text_is_read_as_before_and_no_wrong_bit_passes(
    content: dict[str, Any], data: st.DataObject
) -> None:
    text = json.dumps(content).encode()
    sealed = seal_json("w-1", text)
    assert check_json("w-1", sealed)
    assert json.loads(sealed) == msgspec.json.decode(sealed) == content
    wrong = bytearray(sealed)
    bit = data.draw(st.integers(0, 8 * len(wrong) - 1))
    wrong[bit // 8] ^= 1 << bit % 8
    # A wrong bit in the last blanks leaves a text that is no JSON.
    with pytest.raises((DamagedError, msgspec.DecodeError)):
        read_json(bytes(wrong))


def test_a_value_under_another_name_is_damaged() -> None:
    sealed = seal_array("s:10:0", msgspec.msgpack.encode([1]))
    with pytest.raises(DamagedError, match="s:10:10: its checksum is wrong"):
        check_array("s:10:10", sealed)


def test_a_value_of_an_older_program_has_no_checksum() -> None:
    assert not check_array("meta", msgspec.msgpack.encode([1, 2]))
    assert not check_json("w-1", b'{"id": 1}')
