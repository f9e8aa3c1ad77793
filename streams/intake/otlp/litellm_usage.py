"""The usage object in the spans of LiteLLM's callback `otel`.

Pure. The attribute is a Python dictionary as text. Only numbers are taken, by name; the text is
never evaluated.
"""

import re

from streams.intake.otlp.batch import Event
from streams.intake.otlp.spans import Attribute

_COUNTS = re.compile(
    r"'(prompt_tokens|completion_tokens|cached_tokens|cache_write_tokens|reasoning_tokens"
    r"|text_tokens)': (\d{1,15})\b"
)
_NO_DETAILS = "'prompt_tokens_details': None"
_ANSWER_FIELDS = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
_PROMPT_FIELDS = {
    "cached_tokens": "cached_input_tokens",
    "cache_write_tokens": "cache_write_tokens",
}


def add_usage(event: Event, value: Attribute) -> None:
    """Add the tokens of the text that the span has not, and whether they are estimates.

    LiteLLM counts the tokens of a stream that had no usage itself: it then gives no details of the
    prompt, and all tokens of the answer are text.
    """
    if not isinstance(value, str):
        return
    answer, _, prompt = value.partition("'prompt_tokens_details'")
    answer_counts, prompt_counts = dict(_COUNTS.findall(answer)), dict(_COUNTS.findall(prompt))
    for counts, fields in ((answer_counts, _ANSWER_FIELDS), (prompt_counts, _PROMPT_FIELDS)):
        for name, field in fields.items():
            if name in counts:
                event.setdefault(field, int(counts[name]))
    if _NO_DETAILS in value and answer_counts.get("text_tokens") == str(event.get("output_tokens")):
        event["estimated_tokens"] = True
        # An estimate does not look into the answer: these zeros are none.
        event.pop("reasoning_tokens", None)
