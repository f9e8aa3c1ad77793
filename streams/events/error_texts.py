"""What the text of an error says of its outcome, if there is no HTTP status.

Pure. The text is a class of an SDK, a code of a provider or of gRPC, or a message. The intake of
spans reads the table, and mappings have it as a macro. docs/mappings.md has examples of each line.
"""

import re
from functools import lru_cache

# (pattern, outcome, error class), tried in this order and without regard to case. The syntax is
# that which Python and RE2 share. `.?` stands for the space, `_` or `-` that some writers have.
ERROR_TEXTS: tuple[tuple[str, str, str | None], ...] = (
    (
        "rate.?limit|too.?many.?(?:requests|tokens)|throttl|quota(?:[^t]|t[^i]|$)|resource.?exhausted"
        "|budget.?exceeded",
        "rate_limited",
        "rate",
    ),
    ("time.?out|timed.?out|deadline.?exceeded", "timeout", None),
    ("overload|unavailable|at capacity|model.?not.?ready", "overloaded", None),
    (
        "cancel|generator.?exit|client.{0,4}(?:disconnect|closed)|abort.{0,12}client"
        "|keyboard.?interrupt",
        "cancelled",
        None,
    ),
    # Before those of the client that have the same words: the connection was aborted, and not the
    # request; the host or a file was not found, and not the model; the answer was not valid.
    (
        "connection.?abort|econnaborted|enotfound|getaddrinfo|name resolution|no such host"
        "|(?:file|module)notfounderror|response.?validation",
        "server_error",
        None,
    ),
    ("abort", "cancelled", None),
    (
        "stream.?error|incomplete.{0,10}read|remote.?protocol|peer closed|midstream",
        "stream_error",
        None,
    ),
    (
        "content.?(?:filter|policy|management)|policy.?violation|guardrail|blocked.?pii"
        "|responsible.?ai",
        "client_error",
        "policy",
    ),
    (
        "context.?(?:length|window)|maximum context"
        "|(?:prompt|input|request|payload|entity|body).{0,12}too.?(?:large|long)",
        "client_error",
        "too_large",
    ),
    (
        "authenticat|unauthori[sz]ed|(?:invalid|incorrect|missing|expired).?api.?key"
        "|api.?key.{0,8}(?:not valid|invalid|expired)",
        "client_error",
        "auth",
    ),
    (
        "permission.?(?:denied|error)|access.?denied|forbidden|not.?authori[sz]ed",
        "client_error",
        "permission",
    ),
    (
        "credit.?balance|insufficient.?(?:credit|fund|balance)|payment.?required",
        "client_error",
        "payment",
    ),
    ("not.?found|does not exist|no such model|unknown model", "client_error", "not_found"),
    (
        "bad.?request|invalid.?(?:request|argument|input|param|value|type)|unprocessable|validation"
        r"|unsupported.?param|conflict.?error|failed.?precondition|genai\.errors\.clienterror$",
        "client_error",
        "invalid",
    ),
    (
        "internal|server.?(?:error|exception)|bad.?gateway|api.?(?:status)?.?error",
        "server_error",
        None,
    ),
)
_PATTERNS = [
    (re.compile(pattern, re.IGNORECASE | re.ASCII), (outcome, error_class))
    for pattern, outcome, error_class in ERROR_TEXTS
]
# Classes and codes come again with each error; longer texts are messages, and seldom the same.
_LONGEST_KNOWN = 80


def end_of_error_text(text: str) -> tuple[str, str | None] | None:
    """Return the outcome and the error class, if any, that a text stands for; None if unknown."""
    return _known(text) if len(text) <= _LONGEST_KNOWN else _search(text)


def _search(text: str) -> tuple[str, str | None] | None:
    for pattern, end in _PATTERNS:
        if pattern.search(text):
            return end
    return None


_known = lru_cache(maxsize=1024)(_search)
