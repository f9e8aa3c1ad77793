"""The shipped macros, on usage objects that providers sent and on the tables of the contract."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from streams.events.epoch import UNITS
from streams.events.error_texts import ERROR_TEXTS, end_of_error_text
from streams.events.fields import CLASS_OUTCOMES, STATUS_OUTCOMES, outcome_of
from streams.events.names import usable_label
from streams.sources.sql_engine import SqlEngine
from tests.support.paths import ROOT
from tests.support.traces import TRACES

USAGE = TRACES / "native" / "provider-usage"
MACROS = {
    "anthropic-messages": "usage_anthropic",
    "bedrock-converse": "usage_bedrock",
    "cohere": "usage_cohere",
    "deepseek": "usage_deepseek",
    "gemini": "usage_gemini",
    "groq": "usage_openai",
    "mistral": "usage_mistral",
    "openai-chat": "usage_openai",
    "openai-responses": "usage_openai_responses",
    "openrouter": "usage_openai",
    "xai": "usage_xai",
}


ENGINE = SqlEngine()


def value(expression: str) -> Any:
    return ENGINE.rows(f"SELECT {expression}")[0][0]


def usage(macro: str, document: Any) -> Any:
    text = json.dumps(document).replace("'", "''")
    return value(f"{macro}('{text}'::JSON)")


@pytest.mark.skipif(not USAGE.is_dir(), reason=f"needs recorded usage objects: {USAGE}")
@pytest.mark.parametrize("shape", MACROS)
def test_recorded_usage_is_normalised(shape: str) -> None:
    for recorded in json.loads((USAGE / f"{shape}.json").read_text()):
        counts = usage(MACROS[shape], recorded["usage"])
        expected = recorded["normalised"]
        # The record has 0 for a count that the provider did not send; the macro NULL.
        assert {name: counts[name] or 0 for name in expected} == expected


def test_every_recorded_shape_has_a_macro() -> None:
    if USAGE.is_dir():
        assert {path.stem for path in Path(USAGE).glob("*.json")} == MACROS.keys()


@pytest.mark.parametrize("macro", sorted({*MACROS.values(), "usage_bedrock_log"}))
@pytest.mark.parametrize("document", [{}, None, [], {"prompt_tokens": "many"}])
def test_usage_without_counts_is_unknown_and_not_zero(macro: str, document: Any) -> None:
    counts = usage(macro, document)
    assert counts["input_tokens"] is None
    assert counts["output_tokens"] is None


def test_the_log_of_bedrock_excludes_the_cache_from_its_input() -> None:
    document = {
        "input": {"inputTokenCount": 3, "cacheReadInputTokenCount": 100},
        "output": {"outputTokenCount": 7},
    }
    counts = usage("usage_bedrock_log", document)
    assert (counts["input_tokens"], counts["cached_input_tokens"]) == (103, 100)


@pytest.mark.parametrize(("unit", "scale"), UNITS.items())
def test_epochs_are_recognised_in_each_unit(unit: str, scale: tuple[int, int]) -> None:
    multiplier, divisor = scale
    assert value(f"epoch_ms_of({1_795_168_801_000 * divisor // multiplier})") == 1_795_168_801_000


def test_epochs_are_recognised_as_text_and_nothing_else_is_a_time() -> None:
    assert value("epoch_ms_of('1795168801.25')") == 1_795_168_801_250
    assert value("epoch_ms_of('1970-01-02T01:00:00.25+01:00')") == 86_400_250
    for text in ("12", "-1", "soon", ""):
        assert value(f"epoch_ms_of('{text}')") is None
    assert value("epoch_ms_of(NULL)") is None


def test_outcomes_of_statuses_are_those_of_the_contract() -> None:
    for first, last, _ in STATUS_OUTCOMES:
        for status in (first, last):
            assert value(f"outcome_of({status}, NULL)") == outcome_of(status, None)
    assert value("outcome_of('-', NULL)") is None
    assert value("outcome_of(NULL, NULL)") is None


def documented_texts() -> list[tuple[str, str, str | None]]:
    """Return the examples of docs/mappings.md with their outcome and class."""
    section = (ROOT / "docs" / "mappings.md").read_text().split("### Errors without a status")[1]
    lines = [line.split("|")[1:4] for line in section.splitlines() if line.startswith("|")]
    return [
        (text.strip(), outcome.strip(" `"), error_class.strip(" `") or None)
        for texts, outcome, error_class in lines[2:]
        for _, text in re.findall("(``?)(.+?)\\1", texts)
    ]


@pytest.mark.parametrize(("text", "outcome", "error_class"), documented_texts())
def test_documented_texts_of_errors_have_their_outcome_for_spans_and_for_mappings(
    text: str, outcome: str, error_class: str | None
) -> None:
    assert end_of_error_text(text) == (outcome, error_class)
    assert value(f"error_outcome('{text}')") == outcome


def test_each_line_of_the_table_has_a_documented_text_and_a_class_of_the_contract() -> None:
    documented = {(outcome, error_class) for _, outcome, error_class in documented_texts()}
    assert documented == {(outcome, error_class) for _, outcome, error_class in ERROR_TEXTS}
    for outcome, error_class in documented:
        assert error_class is None or outcome in CLASS_OUTCOMES[error_class]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("400 tokens were used before the engine crashed", "server_error"),
        ("429 tokens", "server_error"),
        ("4290", "server_error"),
        ("429 Rate limit reached for gpt", "rate_limited"),
        ("401 Incorrect key", "client_error"),
        ("503: upstream connect error", "overloaded"),
        ("429 status code (no body)", "rate_limited"),
        ('400 {"error": "x"}', "client_error"),
        ("Request failed with status code 504", "timeout"),
        ("RateLimitError", "rate_limited"),
        ("ThrottlingException", "rate_limited"),
        ("openai.APITimeoutError", "timeout"),
        ("overloaded_error", "overloaded"),
        ("ServiceUnavailableError", "overloaded"),
        ("InternalServerError", "server_error"),
        ("BadRequestError", "client_error"),
        ("AuthenticationError", "client_error"),
        ("asyncio.CancelledError", "cancelled"),
        ("Error code: 429 - slow down", "rate_limited"),
        ("context_length_exceeded: 8192 tokens", "client_error"),
        ("GuardrailRaisedException", "client_error"),
        ("BudgetExceededError", "rate_limited"),
        ("504", "timeout"),
        ("strange", "server_error"),
        ("stream closed, status code 200", "stream_error"),
        ("Error code: 200", "stream_error"),
        ("200", "stream_error"),
        ("429 Too Many Requests, status code 429", "rate_limited"),
        ("unbalanced quotation mark", "server_error"),
        ("Quota exceeded", "rate_limited"),
        ("insufficient_quota", "rate_limited"),
        ("connection aborted by the client", "cancelled"),
        ("The operation was aborted", "cancelled"),
        ("ModuleNotFoundError", "server_error"),
    ],
)
def test_outcomes_of_errors_without_a_status(error: str, outcome: str) -> None:
    assert value(f"outcome_of(NULL, '{error}')") == outcome


def test_a_success_with_an_error_broke_after_its_headers() -> None:
    assert value("outcome_of(200, 'boom')") == "stream_error"
    assert value("outcome_of(200, 'ClientDisconnect')") == "cancelled"
    assert value("outcome_of(200, '')") == "success"


@pytest.mark.parametrize("name", ["gpt-4o", "a model é", "x/" * 60 + "last", "a" * 200, ""])
def test_labels_are_names_of_the_contract(name: str) -> None:
    label = value(f"label('{name}')")
    assert label is None if not name else usable_label(label) == (label, False)


def test_a_select_that_cannot_be_examined_is_refused() -> None:
    assert ENGINE.forbidden("SELECT 1") is None
    assert ENGINE.forbidden("SELECT * FROM (PIVOT t ON a USING sum(b))") is not None
