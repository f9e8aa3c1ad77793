"""Names that producers send, as names that can be counted.

Pure, and the same for the same text: a replay gives every request the name that it had before.
"""

import hashlib
import re
from collections.abc import Iterable

from streams.events.fields import LABEL_PATTERN, MAX_CUSTOMER_BYTES, MAX_LABEL, OTHER, UNKNOWN

_LABEL = re.compile(LABEL_PATTERN)
_NOT_IN_LABELS = re.compile("[^A-Za-z0-9._:/@ -]")
_HASH_DIGITS = 8
_SHORT_CUSTOMER = MAX_CUSTOMER_BYTES // 4  # characters that fit whatever they are
_ARN_PARTS = 5  # arn, partition, service, region and account come before the resource


def usable_label(given: str | int | None, only_last_part: bool = False) -> tuple[str, bool]:
    """Return the label for a name, and whether it differs from the name that was sent.

    Characters that no label has become `_`; a name that is too long, or reserved, or that has no
    letter then, ends in a hash of its text. Null and empty names are `unknown`. `only_last_part`:
    an ARN or a path is cut to its last part first.
    """
    if given is None or given == "":
        return UNKNOWN, False
    text = _last_part(str(given)) if only_last_part else str(given)
    if text == given and given != OTHER and _LABEL.fullmatch(text):
        return text, False
    label = _NOT_IN_LABELS.sub("_", text)
    # Names in another script would become one: all of four characters are `____`.
    has_letter = label.upper() != label.lower()
    if len(label) > MAX_LABEL or label == OTHER or (label != text and not has_letter):
        label = f"{label[: MAX_LABEL - _HASH_DIGITS - 1]}-{_hash(text)}"
    return label, True


def _last_part(name: str) -> str:
    """Return the id of the resource of an ARN, or the part after the last `/` of a path."""
    parts = name.split(":", _ARN_PARTS)
    if parts[0] == "arn" and len(parts) > _ARN_PARTS:
        # The resource is type/id or type:id, and an id may have colons: model-v1:0.
        resource = parts[_ARN_PARTS]
        name = resource if "/" in resource else resource.partition(":")[2] or resource
    # A name that ends in `/` has its last part before it; one of slashes only has none.
    return name.rstrip("/").rpartition("/")[2] or name


def are_usable_customers(given: Iterable[str | int | None]) -> bool:
    """Return whether `usable_customer` returns all of these as they are, without a fault.

    False for a long id too, which may be one. Usual batches are all usable.
    """
    return all(
        type(customer) is str and 0 < len(customer) <= _SHORT_CUSTOMER and customer != OTHER
        for customer in given
    )


def usable_customer(given: str | int | None) -> tuple[str, str | None]:
    """Return the customer id to hash, and the fault of the given one, one of FIELD_REASONS.

    Any text or number is an id. A longer one than MAX_CUSTOMER_BYTES is `unknown`.
    """
    if given is None or given == "":
        return UNKNOWN, None
    text = str(given)
    if len(text) > _SHORT_CUSTOMER and len(text.encode()) > MAX_CUSTOMER_BYTES:
        return UNKNOWN, "out_of_range"
    if text == OTHER:
        return f"{text}-{_hash(text)}", "renamed"
    return text, None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
