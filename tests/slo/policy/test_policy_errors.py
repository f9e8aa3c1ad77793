"""Wrong policy files: each finding on one line, with file, key and fix; the schema agrees."""

import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slo.policy.loading import (
    PolicyError,
    as_policy,
    load_policies,
    load_policy,
    read_policy,
    shipped,
)
from slo.policy.schema import json_schema
from streams.config.yaml_file import parse_document
from tests.support.policy_files import EVERY_KEY, one

_TIER = {"below": "99%", "credit": "5%"}
_PAGE = {"severity": "page", "below": "30%"}


def every_key() -> dict[str, Any]:
    document: dict[str, Any] = parse_document(EVERY_KEY.read_text(), "every-key", exact=True)
    return document


def now(**changes: Any) -> dict[str, Any]:
    """The same with a cache objective."""
    entry = {
        "name": "cache",
        "indicator": {"kind": "cache_hit_ratio"},
        "levels": [_PAGE],
    } | changes
    return {"version": 1, "name": "test", "objectives": [entry]}


def findings(document: dict[str, Any]) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        as_policy(document, "p.yaml")
    return str(caught.value).splitlines()


# --- what is wrong is said in one line


def test_without_a_kind_a_key_of_no_kind_is_named_too() -> None:
    entry = {"name": "up", "sli": {"metric": "uptime"}, "target": "99.9%"}
    kind, key = findings({"version": 1, "name": "test", "objectives": [entry]})
    assert kind.startswith("p.yaml: objectives[0].indicator.kind: got nothing; use one of ")
    assert key.startswith("p.yaml: objectives[0].sli: ")
    assert key.endswith("no such key here; docs/policies.md lists them all")


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (one(target="100%"), "objectives[0].target: got '100%'; write more than 0% and less"),
        (one(target=Decimal("99.9")), "objectives[0].target: got 99.9; write a percent such as"),
        (one(target="1e2%"), "objectives[0].target: got '1e2%'; write a percent"),
        (one(target=None), "objectives[0].target: got nothing; this key is required"),
        (one(name="Up time"), "objectives[0].name: got 'Up time'; use up to 63 lower-case"),
        (one(tarqet="1%"), "objectives[0].tarqet: got '1%'; no such key here; docs/policies.md"),
        (one(indicator={"kind": "uptime"}), "objectives[0].indicator.kind: got 'uptime'; use one"),
        (one(indicator="uptime"), "objectives[0].indicator.kind: got 'uptime'; use one of requ"),
        (one(indicator=None), "objectives[0].indicator.kind: got nothing; use one of request_r"),
        (
            one(indicator={"kind": "request_ratio", "failed": ["succes"]}),
            "objectives[0].indicator.failed[0]: got 'succes'; use success, server_error",
        ),
        (
            one(indicator={"kind": "request_ratio", "failed": ["rate_limited"]}),
            "objectives[0].indicator: rate_limited failed without being eligible; add to eligible",
        ),
        (
            one(indicator={"kind": "request_ratio", "failed": []}),
            "objectives[0].indicator: failed is empty, so nothing could ever count",
        ),
        (
            one(indicator={"kind": "request_ratio", "failed": ["success"]}),
            "objectives[0].indicator: success is eligible and has not failed",
        ),
        (
            one(indicator={"kind": "latency_ratio", "measure": "ttft", "limit": 300}),
            "objectives[0].indicator.limit: got 300; write a latency such as 300ms",
        ),
        (
            one(indicator={"kind": "latency_ratio", "measure": "ttft", "limit": "0.5us"}),
            "objectives[0].indicator.limit: got '0.5us'; latencies are whole microseconds",
        ),
        (
            one(indicator={"kind": "latency_ratio", "measure": "ttft", "limit_us": "3ms"}),
            "objectives[0].indicator.limit: got nothing; this key is required",
        ),
        (
            one(scope={"input_tokens": {"at_most": 1_000, "above": 1_000}}),
            "objectives[0].scope.input_tokens: at_most is not more than above; correct them",
        ),
        (
            one(scope={"input_tokens": {}}),
            "objectives[0].scope.input_tokens: write at_most or above",
        ),
        (
            one(scope={"input_tokens": {"at_most": "128k"}}),
            "objectives[0].scope.input_tokens.at_most: got '128k'; it should be a valid integer",
        ),
        (
            one(scope={"customer": "a", "requested_service_tier": "priority"}),
            "objectives[0].scope: customers are counted by model only; leave out requested_serv",
        ),
        (
            one(
                scope={"per": "customer"},
                exclusions=[
                    {"where": {"input_tokens": {"above": 9}}, "author": "a", "reason": "b"}
                ],
            ),
            "objective uptime: its requests are not counted by input_tokens, so they cannot be",
        ),
        (
            now(scope={"input_tokens": {"at_most": 1_000}}),
            "objectives[0]: windows are not published by input_tokens, so cache_hit_ratio cannot",
        ),
        (
            one(indicator={"kind": "request_ratio", "error_classes": ["rate"]}),
            "objectives[0].indicator.error_classes[0]: got 'rate'; use auth, payment, permission",
        ),
        (
            one(
                indicator={
                    "kind": "request_ratio",
                    "eligible": ["success", "client_error"],
                    "failed": ["client_error"],
                    "error_classes": ["auth"],
                }
            ),
            "objectives[0].indicator: failed has client_error, so all its classes; leave error_cl",
        ),
        (
            one(indicator={"kind": "slice_ratio_mean", "slice": "7m"}),
            "objectives[0].indicator.slice: got '7m'; use a span of whole minutes that divides",
        ),
        (
            one(indicator={"kind": "minute_verdicts", "down_above": "5%", "down_run": True}),
            "objectives[0].indicator.down_run: got True; it should be a valid integer",
        ),
        (
            one(
                indicator={"kind": "latency_ratio", "measure": "ttft", "limit": "3ms"},
                scope={"per": "customer"},
            ),
            "objectives[0]: latencies are not kept by customer, so latency_ratio cannot be; use",
        ),
        (
            one(scope={"per": "customer", "region": "eu"}),
            "objectives[0].scope: customers are counted by model only; leave out region",
        ),
        (one(scope="all"), "objectives[0].scope: got 'all'; write keys here"),
        (one(scope={"model": []}), "objectives[0].scope: model names nothing; write a name or"),
        (one(scope={"model": 'a"b'}), "objectives[0].scope.model: got 'a\"b'; use up to 96"),
        (one(period={"rolling": 30}), "objectives[0].period.rolling_days: got nothing; this key"),
        (
            one(period={"calendar": "month", "zone": "Mars/Base"}),
            "objectives[0].period.zone: got 'Mars/Base'; use an IANA name such as Europe/Berlin",
        ),
        (
            one(period={"rolling_days": 30}, sla={"credit_tiers": [_TIER]}),
            "objectives[0]: credits are for calendar months; write period: {calendar: month}",
        ),
        (
            one(sla={"credit_tiers": [_TIER, {"below": "99.5%", "credit": "9%"}]}),
            "objectives[0].sla.credit_tiers: ",
        ),
        (
            one(sla={"credit_tiers": [_TIER, {"below": "98%", "credit": "5%"}]}),
            "objectives[0].sla.credit_tiers: ",
        ),
        (
            one(sla={"credit_tiers": [{"below": "99.95%", "credit": "5%"}]}),
            "objectives[0]: sla: a credit below 99.95% would be due while the target 99.9% is met",
        ),
        (
            one(sla={"credit_tiers": [_TIER], "monthly_fee": "1 USD", "committed_spend": "1 USD"}),
            "objectives[0].sla: give monthly_fee or committed_spend, not both",
        ),
        (
            one(sla={"credit_tiers": [_TIER], "monthly_fee": "1 USD", "min_credit": "1 EUR"}),
            "objectives[0].sla: min_credit is in another currency than the fee; use one",
        ),
        (
            one(sla={"credit_tiers": [_TIER], "monthly_fee": "$5"}),
            "objectives[0].sla.monthly_fee: got '$5'; write an amount and its currency",
        ),
        (
            one(exclusions=[{"author": "a", "reason": "b"}]),
            "objectives[0].exclusions[0]: this would exclude everything for ever; write from",
        ),
        (
            one(exclusions=[{"author": "a", "reason": "b", "from": "2026-01-01T00:00Z"}]),
            "objectives[0].exclusions[0]: from and to belong together; write both or neither",
        ),
        (
            one(exclusions=[{"author": "a", "reason": "b", "from": "2026-01-01T00:00:30Z"}]),
            "objectives[0].exclusions[0].from: got '2026-01-01T00:00:30Z'; write a whole minute",
        ),
        (
            one(exclusions=[{"author": "a", "reason": "b", "from": "2026-02-30T00:00Z"}]),
            "objectives[0].exclusions[0].from: got '2026-02-30T00:00Z'; no such time; write a",
        ),
        (
            one(exclusions=[{"author": "a", "reason": "b", "where": {"customer": "x"}}]),
            "objective uptime: its requests are not counted by customer, so they cannot be",
        ),
        (
            now(levels=[_PAGE, {"severity": "ticket", "below": "20%"}]),
            "objectives[0]: levels: page is no worse than ticket; swap or correct them",
        ),
        (
            now(levels=[_PAGE, _PAGE | {"severity": "ticket"}]),
            "objectives[0]: levels: page is no worse than ticket; swap or correct them",
        ),
        (
            now(levels=[_PAGE, _PAGE]),
            "objectives[0]: levels: two of one severity; keep one",
        ),
        (now(target="40%"), "objectives[0].target: got '40%'; no such key here"),
        (
            now(bands=[{"name": "moat", "from": "50%", "to": "50%"}]),
            "objectives[0].bands[0]: to is not above from; correct them",
        ),
        (
            now(indicator={"kind": "token_volume_drop", "window": "1h", "baseline": "1h"}),
            "objectives[0].indicator: baseline 1h is not longer than window 1h; use a longer",
        ),
        (one() | {"version": 2}, "version: got 2; this release reads version 1"),
        (one() | {"objectives": []}, "objectives: got []; write at least one"),
        ({**one(), "objectives": one()["objectives"] * 2}, "two objectives are called uptime;"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_a_finding_says_where_what_and_the_cure(document: dict[str, Any], line: str) -> None:
    lines = findings(document)
    assert any(found.startswith(f"p.yaml: {line}") for found in lines), lines


def test_every_mistake_is_told_at_once() -> None:
    document = one(target="100%", route="")
    document["objectives"].append({"name": "x", "indicator": {"kind": "no"}})
    assert len(findings(document)) == 3


def test_a_latency_level_for_pages_must_be_above_that_for_tickets() -> None:
    entry = {
        "name": "ttft",
        "indicator": {"kind": "rolling_percentile", "measure": "ttft", "percentile": 95},
        "levels": [{"severity": "page", "above": "1s"}, {"severity": "ticket", "above": "2s"}],
    }
    [line] = findings({"version": 1, "name": "test", "objectives": [entry]})
    assert "page is no worse than ticket" in line


def test_credits_that_compete_need_one_fee() -> None:
    document = one(sla={"credit_tiers": [_TIER], "greatest_of": "both", "monthly_fee": "1 USD"})
    other = {**document["objectives"][0], "name": "other"}
    other["sla"] = {**other["sla"], "monthly_fee": "2 USD"}
    document["objectives"].append(other)
    [line] = findings(document)
    assert line.startswith("p.yaml: objective other: its fee differs")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "got nothing; write a document that begins with `version: 1`"),
        ("- 1", "got [1]; write a document"),
        ("a: 1\n---\nb: 2", "got 2 documents; write one, without a line `---`"),
        ("a: [", "line 1, column 5: not YAML: "),
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key a is given twice; keep one"),
        ("? [a]\n: 1", "line 1, column 3: got a list or a mapping as a key; write a text"),
        (
            "a: !!python/name:os.system",
            "line 1, column 4: not YAML: could not determine a constructor",
        ),
        ("a: \x00", "not YAML: "),
        ("[" * 1_000, "not YAML: "),  # too deep for the parser
    ],
)
def test_what_is_no_policy_file_is_one_line_too(text: str, line: str) -> None:
    with pytest.raises(PolicyError) as caught:
        read_policy(text, "p.yaml")
    [found] = str(caught.value).splitlines()
    assert found.startswith(f"p.yaml: {line}")


def test_a_key_that_is_a_number_is_an_error() -> None:
    document: dict[Any, Any] = every_key()
    document[1] = 2
    assert findings(document) == ["p.yaml: [1]: got 1; keys are text"]


def test_a_missing_file_names_the_shipped_policies(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no such file; give .* gemini-style"):
        load_policy(tmp_path / "none.yaml")


def test_two_policies_of_one_name_cannot_be_in_force_together(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text(shipped()["default"].read_text())
    with pytest.raises(PolicyError, match="name: got 'default', as in default; rename one"):
        load_policies(["default", copy])


# --- the schema


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a document."""
    yield path
    entries: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else ()
    entries = enumerate(value) if isinstance(value, list) else entries
    for key, entry in entries:
        yield from places(entry, (*path, key))


PLACES = [path for path in places(every_key()) if path]
SCHEMA = jsonschema.Draft202012Validator(json_schema())


def test_the_schema_accepts_every_key_and_all_that_is_shipped() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    for text in [EVERY_KEY.read_text(), *(entry.read_text() for entry in shipped().values())]:
        SCHEMA.validate(parse_document(text, "", exact=True))


def test_the_test_policy_has_every_key_of_the_schema() -> None:
    keys = {key for path in PLACES for key in path if isinstance(key, str)}
    schema = json_schema()
    for part in (schema, *schema["$defs"].values()):
        assert set(part["properties"]) <= keys, part.get("title")


@settings(deadline=None)
@given(
    st.sampled_from(PLACES),
    st.sampled_from(["", "fleet", "99%", "5m", "300ms", "page", 0, 1, True, None, [], {}, ["x"]]),
)
@example(("objectives", 0, "target"), "99%")
def test_the_schema_refuses_nothing_that_the_reader_accepts(
    path: tuple[Any, ...], value: Any
) -> None:
    document = deepcopy(every_key())
    at: Any = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    try:
        as_policy(document, "p.yaml")
    except PolicyError:
        return
    SCHEMA.validate(document)


def test_the_schema_is_the_same_whatever_the_order_of_sets() -> None:
    defaults = json_schema()["$defs"]["RequestRatio"]["properties"]["eligible"]["default"]
    assert defaults == sorted(defaults)
    assert json.dumps(json_schema())
