"""How a request ended, from status, error and finish reason of its span.

Pure. An HTTP status decides first, then the class of the error, then the finish reason. A failure
that neither explains is a `server_error` of unknown class.
"""

from dataclasses import dataclass
from typing import Final

from streams.events.error_texts import end_of_error_text
from streams.events.fields import class_of_status, outcome_of
from streams.intake.otlp.profile import Cut
from streams.intake.otlp.spans import EXCEPTION_EVENT, STATUS_ERROR, STATUS_UNSET, Span
from streams.intake.otlp.values import status, status_of_message, text

# Finish reason -> ending of the contract.
ENDINGS: Final = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "complete", "eos"), "complete"),
    **dict.fromkeys(("length", "max_tokens", "model_length", "max_output_tokens"), "length"),
    **dict.fromkeys(("tool_calls", "tool-calls", "tool_call", "tool_use", "function_call"), "tool"),
    **dict.fromkeys(
        ("content_filter", "content-filter", "safety", "refusal", "guardrail_intervened"),
        "filtered",
    ),
    "error": "error_finish",
}
CANCELLED_REASONS = frozenset({"abort", "aborted", "cancelled", "canceled"})

# Errors of the connection: whether the answer had begun is not said.
_NO_CONNECTION = frozenset(
    {
        *("APIConnectionError", "ConnectError", "ConnectionError", "ConnectionResetError"),
        *("RemoteProtocolError", "ReadError", "ServerDisconnectedError"),
        "ModelStreamErrorException",
    }
)
# HTTP clients raise these for a body that ends too early, so its headers had come.
_BROKEN_BODY = frozenset({"IncompleteRead", "ClientPayloadError", "ChunkedEncodingError"})


@dataclass(frozen=True, slots=True)
class End:
    """How a request ended, in the words of the contract."""

    outcome: str
    error_class: str | None = None
    ending: str | None = None
    note: str | None = None  # why the end is not certain


_SUCCESSES = {reason: End("success", ending=ending) for reason, ending in ENDINGS.items()}
_SUCCESSES["error"] = End("stream_error", ending="error_finish")
_SUCCESS = End("success")
_ABORTED = End("cancelled")
_UNKNOWN_ERROR = End("server_error", note="unknown_error")
_UNFINISHED = End("cancelled", note="no_finish_reason")


def end_of_success(reason: str | None) -> End:
    """Return the end of a span without an error that finished for the reason."""
    if reason is None:
        return _SUCCESS
    # A reason that the contract does not have is still that of a finished answer.
    return _ABORTED if reason in CANCELLED_REASONS else _SUCCESSES.get(reason, _SUCCESS)


def lacks_ending(span: Span, cut: Cut, stream: bool | None, reason: str | None) -> bool:
    """Return whether a span without an error shows that its stream did not finish."""
    if cut is Cut.NOT_SHOWN or not stream or reason is not None:
        return False
    return cut is Cut.NO_FINISH_REASON or span.status == STATUS_UNSET


def end_of_unfinished() -> End:
    """Return the end of a stream that was cut by the provider or left by the client: not clear.

    It is not held against the provider.
    """
    return _UNFINISHED


def end_of_error(span: Span, status_code: int | None, kind: str | None, saw_token: bool) -> End:
    """Return the end of a span with an error.

    `status_code` is an HTTP status and `kind` a class of errors, each None if the span has none.
    Both are then looked for in the span event of the exception. `saw_token`: the answer had begun.
    """
    exception = span.events.get(EXCEPTION_EVENT)
    if exception is not None:
        kind = kind or text(exception.attributes.get("exception.type"))
        status_code = status_code or status_of_message(
            exception.attributes.get("exception.message")
        )
    kind = kind or ""
    # The attribute error.type may be the HTTP status itself.
    # An error after the headers of a good answer keeps their status: the class says more then.
    status_code = status(kind) or status_code
    if status_code is not None and status_code >= 400:
        return _end_of_status(status_code, kind)
    # Some SDKs write the path of the class, such as openai.APIConnectionError.
    name = kind.rpartition(".")[2]
    if name in _BROKEN_BODY or (name in _NO_CONNECTION and (saw_token or status_code)):
        return End("stream_error")
    if name in _NO_CONNECTION:
        return End("server_error")
    outcome, error_class = end_of_error_text(kind) or (None, None)
    # HTTP 200 came before the error: the answer broke off while it was streamed.
    if status_code is not None and outcome in (None, "server_error"):
        return End("stream_error")
    return _UNKNOWN_ERROR if outcome is None else End(outcome, error_class)


def _end_of_status(status_code: int, kind: str) -> End:
    """Return the end of an HTTP status, refined by the class of the error if both agree."""
    outcome = outcome_of(status_code, "error")
    if outcome is None:
        return _UNKNOWN_ERROR
    typed_outcome, error_class = end_of_error_text(kind) or (None, None)
    if typed_outcome != outcome or error_class is None:
        error_class = class_of_status(status_code) if outcome == "client_error" else None
    return End(outcome, error_class)


def has_error(span: Span, status_code: int | None, kind: str | None) -> bool:
    """Return whether a span has an error: by its status, by a class of errors or by HTTP."""
    return (
        span.status == STATUS_ERROR
        or kind is not None
        or (status_code is not None and status_code >= 400)
    )
