"""Sums by key are a commutative monoid, and bytes give them back."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.state.tables import Table, leb128_decode, leb128_encode

LARGEST = 2**63 - 1
KEYS = st.integers(0, 5) | st.integers(0, 2**62)
ROWS = st.lists(st.tuples(KEYS, st.integers(0, 10**15), st.integers(0, 3)), max_size=12)
QUICK = settings(max_examples=60, deadline=None)


def table(rows: list[tuple[int, int, int]]) -> Table:
    """Of two columns."""
    keys = np.array([key for key, *_ in rows], np.int64)
    return Table.summed(keys, np.array([row[1:] for row in rows], np.int64).reshape(len(rows), 2))


def plain(found: Table) -> dict[int, tuple[int, int]]:
    assert found.keys.tolist() == sorted(set(found.keys.tolist()))
    return dict(zip(found.keys.tolist(), map(tuple, found.values.tolist()), strict=True))


@QUICK
@given(ROWS)
def test_summing_adds_the_rows_of_equal_keys(rows: list[tuple[int, int, int]]) -> None:
    sums = {key: (0, 0) for key, *_ in rows}
    for key, one, two in rows:
        sums[key] = (sums[key][0] + one, sums[key][1] + two)
    assert plain(table(rows)) == sums


@QUICK
@given(ROWS, ROWS, ROWS)
def test_merging_is_commutative_associative_and_leaves_its_parts_alone(
    one: list[tuple[int, int, int]],
    two: list[tuple[int, int, int]],
    three: list[tuple[int, int, int]],
) -> None:
    a, b, c = table(one), table(two), table(three)
    whole = plain(table(one + two + three))
    assert plain(Table.merged([a, b, c])) == whole
    assert plain(Table.merged([c, a, b])) == whole
    assert plain(Table.merged([Table.merged([a, b]), c])) == whole
    assert plain(Table.merged([a, Table.merged([b, c])])) == whole
    assert plain(Table.merged([a, Table.empty(2)])) == plain(a) == plain(table(one))


@QUICK
@given(st.lists(KEYS))
def test_counting_says_how_often_each_key_stands_there(keys: list[int]) -> None:
    found = Table.counted(np.array(keys, np.int64))
    assert dict(zip(found.keys.tolist(), found.values.tolist(), strict=True)) == Counter(keys)


@QUICK
@given(ROWS, st.integers(0, 62))
def test_splitting_cuts_a_key_in_two_and_loses_nothing(
    rows: list[tuple[int, int, int]], bits: int
) -> None:
    parts = table(rows).split(bits)
    highs = [high for high, _ in parts]
    assert highs == sorted(set(highs))
    joined = {(high << bits) | low: row for high, part in parts for low, row in plain(part).items()}
    assert joined == plain(table(rows))
    assert all(len(part) and part.keys.max() < 1 << bits for _, part in parts)


@QUICK
@given(ROWS, st.booleans())
def test_packing_and_unpacking_gives_the_same_table(
    rows: list[tuple[int, int, int]], narrow: bool
) -> None:
    before = table(rows)
    if narrow:
        before = Table(before.keys, before.values[:, 0])
    after = Table.unpack(before.pack())
    assert after.keys.tolist() == before.keys.tolist()
    assert after.values.tolist() == before.values.tolist()
    assert after.values.shape == before.values.shape
    assert [after.keys.dtype, after.values.dtype] == [np.dtype(np.int64)] * 2


def test_columns_without_a_value_take_no_room_but_those_of_older_states_are_read() -> None:
    keys = np.array([3, 7], np.int64)
    values = np.array([[0, 5, 0, 300], [0, 6, 0, 0]], np.int64)
    packed = Table(keys, values).pack()
    only_filled = Table(keys, values[:, [1, 3]]).pack()
    assert len(packed) == len(only_filled)
    with_all = np.concatenate(([4, 2], [3, 4], values.ravel()))
    older = Table.unpack(leb128_encode(with_all)[0])
    assert older.keys.tolist() == keys.tolist()
    assert older.values.tolist() == values.tolist() == Table.unpack(packed).values.tolist()


def test_an_empty_table_keeps_its_width_through_its_bytes() -> None:
    assert Table.unpack(Table.empty(5).pack()).values.shape == (0, 5)
    assert Table.unpack(Table.empty().pack()).values.shape == (0,)


NUMBERS = (
    st.integers(0, 300)
    | st.integers(0, LARGEST)
    | st.sampled_from(
        [edge + d for power in range(7, 63, 7) for edge in [2**power] for d in (-1, 0)]
    )
)


def leb128(number: int) -> bytes:
    """The loop every text on LEB128 shows."""
    out = []
    while number >= 128:
        out.append(number % 128 + 128)
        number //= 128
    return bytes([*out, number])


@QUICK
@given(st.lists(NUMBERS | st.just(LARGEST), max_size=20))
def test_numbers_are_written_as_leb128_and_read_back_up_to_the_largest(numbers: list[int]) -> None:
    places = np.arange(len(numbers) + 1)
    data, starts = leb128_encode(np.array(numbers, np.int64), places)
    written = [leb128(number) for number in numbers]
    assert data == b"".join(written)
    assert starts.tolist() == [sum(map(len, written[:at])) for at in places]
    assert leb128_decode(np.frombuffer(data, np.uint8)).tolist() == numbers


def test_what_is_not_leb128_is_an_error() -> None:
    with pytest.raises(ValueError, match="got -1"):
        leb128_encode(np.array([3, -1], np.int64))
    with pytest.raises(ValueError, match="inside a number"):
        leb128_decode(np.frombuffer(b"\x05\x80", np.uint8))
