"""Records that are no JSON in UTF-8 in one place cost one value, whichever part reads them."""

import codecs
from dataclasses import replace
from pathlib import Path

import pytest

from streams.events.fields import MAX_LABEL, UNKNOWN
from streams.events.parser import given_json, record_key
from streams.intake.body import CLOUD_EVENT, split_records, unwrap_cloud_event
from streams.intake.conversion import recognise
from streams.intake.judgement import judge
from streams.query.rejected import describe
from streams.sources.events import EventLine, read_events
from streams.sources.guess import contract_events
from tests.support.event_samples import BARE, NOW, RULES, raw
from tests.support.event_samples import judge as decoded_of

END = BARE.partition('"r"')[2].encode() + b"}"
# The first value of a key given twice does not count, whatever it is.
IDS = {
    b'"a"': b"a",
    b"7": b"7",
    b'1.5,"request_id":"a"': b"a",
    b'null,"request_id":"a"': b"a",
    b'"\xff","request_id":"a"': b"a",
    b'"\\ud800","request_id":"a"': b"a",
    b'"a","\xff":NaN,"u":"\\ud800"': b"a",
}


@pytest.mark.parametrize(("given", "key"), IDS.items())
def test_a_record_that_counts_has_the_key_that_it_counts_under(given: bytes, key: bytes) -> None:
    record = b'{"request_id":' + given + END
    assert not decoded_of([record]).rejections
    assert record_key(record) == key
    [event] = judge([record], NOW, RULES).events
    assert event == (key, record)


@pytest.mark.parametrize("given", [b'"\xff"', b'"\\ud800"', b"1.5", b"null", b"{}", b"[" * 999])
def test_a_record_without_a_usable_id_has_no_key(given: bytes) -> None:
    assert record_key(b'{"request_id":' + given + END) is None


@pytest.mark.parametrize("wrong", [b"NaN", b"-Infinity", b'"\\ud800"'])
def test_a_value_that_is_not_json_does_not_cost_the_body_of_a_request(wrong: bytes) -> None:
    good, bad = raw(), raw()[:-1] + b',"ttft_ms":' + wrong + b"}"
    for body, count in ((b"[" + good + b"," + bad + b"]", 2), (bad, 1)):
        records = split_records("application/json", body, 10)
        assert len(records) == count
        assert not decoded_of(records).rejections
    event = b'{"specversion":"1.0","id":"x","data":' + bad + b"}"
    [record] = split_records(CLOUD_EVENT, event, 10)
    assert record_key(unwrap_cloud_event(record)) == record_key(good)


def test_a_key_that_is_no_text_costs_nothing() -> None:
    record = raw()[:-1] + b',"litellm_call_id":1,"\xff":1}'
    assert unwrap_cloud_event(record) == record
    assert recognise(record) == "events"


def test_a_line_whose_field_has_a_name_that_is_no_text_stays_at_its_time(tmp_path: Path) -> None:
    for name in (b'"\xff"', b'"\\ud800"'):
        file = tmp_path / "events.jsonl"
        file.write_bytes(raw()[:-1] + b"," + name + b":1}\n")
        [line] = read_events(file)
        assert isinstance(line, EventLine)
        assert line.ended_at_ms == NOW
        assert line.encode(60_000) == line.value


def test_an_event_whose_model_is_no_text_is_tried(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(raw(model="M").replace(b'"M"', b'"\\ud800"') + b"\n")
    guess = contract_events(file)
    assert guess is not None
    assert guess.verdicts()


def test_a_value_that_is_no_text_is_described() -> None:
    assert describe(b'"\xff"') == "3 bytes that are not JSON in UTF-8"


def test_the_time_of_a_line_with_a_wrong_value_is_read_and_moved(tmp_path: Path) -> None:
    for wrong in (b'"customer_id":"\xff"', b'"ttft_ms":NaN', b'"error":"\\ud800"'):
        file = tmp_path / "events.jsonl"
        file.write_bytes(raw()[:-1] + b"," + wrong + b"}\n")
        [line] = read_events(file)
        assert isinstance(line, EventLine)
        assert line.ended_at_ms == NOW
        moved = line.encode(60_000)
        assert given_json(moved, "ended_at") == str(NOW + 60_000).encode()
        assert not decoded_of([moved], timestamps_ms=[NOW + 60_000]).rejections
        guess = contract_events(file)
        assert guess is not None
        assert len(guess.rows) == 1


def test_a_byte_order_mark_costs_nothing(tmp_path: Path) -> None:
    """Some platforms write one before each text that they encode."""
    record = codecs.BOM_UTF8 + raw(request_id="a")
    assert not decoded_of([record]).rejections
    assert record_key(record) == b"a"
    [marked] = decoded_of([codecs.BOM_UTF8 + b"[]"]).rejections
    assert marked.detail == "event: expected object, found array"
    [event] = judge([record], NOW, RULES).events
    assert event == (b"a", record)
    for body in (record, codecs.BOM_UTF8 + b"[" + raw() + b"]"):
        [split] = split_records("application/json", body, 10)
        assert not decoded_of([split]).rejections
    file = tmp_path / "events.jsonl"
    file.write_bytes(record + b"\n" + record + b"\n")
    assert [line.key for line in read_events(file) if isinstance(line, EventLine)] == [b"a"] * 2


def test_a_number_longer_than_python_reads_is_an_id_and_a_name() -> None:
    digits = b"7" * 5_000
    rules = replace(RULES, max_event_bytes=10_000)
    named = [raw()[:-1] + b',"%s":%s}' % (name, digits) for name in (b"model", b"customer_id")]
    identified = b'{"request_id":' + digits + END
    decoded = decoded_of([*named, identified], rules=rules)
    assert not decoded.rejections
    model = decoded.columns.series[0][0]
    assert model.startswith("777")
    assert len(model) == MAX_LABEL
    assert {customer for customer, _ in decoded.columns.customers[1:]} == {UNKNOWN}
    assert record_key(identified) == digits
