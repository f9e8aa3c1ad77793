"""Names that producers send, as names that can be counted.

Pure, and the same for the same text: a replay gives every request the name that it had before.
"""

import hashlib
import re

from streams.events.fields import LABEL_PATTERN, MAX_CUSTOMER_BYTES, MAX_LABEL, OTHER, UNKNOWN

_LABEL = re.compile(LABEL_PATTERN)
_NOT_IN_LABELS = re.compile("[^A-Za-z0-9._:/@ -]")
_HASH_DIGITS = 8


def usable_label(given: str | int | None) -> tuple[str, bool]:
    """Return the label for a name, and whether it differs from the name that was sent.

    Characters that no label has become `_`; a name that is too long, or reserved, ends in a hash
    of what was sent. Null and empty names are `unknown`.
    """
    if given is None or given == "":
        return UNKNOWN, False
    if isinstance(given, str) and given != OTHER and _LABEL.fullmatch(given):
        return given, False
    text = str(given)
    label = _NOT_IN_LABELS.sub("_", text)
    if len(label) > MAX_LABEL or label == OTHER:
        label = f"{label[: MAX_LABEL - _HASH_DIGITS - 1]}-{_hash(text)}"
    return label, True


def usable_customer(given: str | int | None) -> tuple[str, str | None]:
    """Return the customer id to hash, and what was wrong with the given one, one of FIELD_REASONS.

    Any text or number is an id. A longer one than MAX_CUSTOMER_BYTES is `unknown`.
    """
    if given is None or given == "":
        return UNKNOWN, None
    text = str(given)
    # A character takes up to four bytes, so that short ids need not be encoded.
    if len(text) * 4 > MAX_CUSTOMER_BYTES < len(text.encode()):
        return UNKNOWN, "out_of_range"
    if text == OTHER:
        return f"{text}-{_hash(text)}", "renamed"
    return text, None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
