"""Addresses of the pages of single places, relative to the root of the exporter. Pure."""

from collections.abc import Mapping
from urllib.parse import quote

from streams.events.fields import OTHER

# First part of a page's path -> dimension of the state.
DIMENSION_OF: Mapping[str, str] = {
    "model": "model",
    "region": "region",
    "channel": "channel",
    "tier": "service_tier",
    "customer": "customer",
}
OTHERS = "others"  # the name on the boards of all that is counted under OTHER


def place_address(kind: str, name: str) -> str:
    """Return the address of a place, `model/aurora-4-large`; `kind`: of DIMENSION_OF."""
    segment = quote(OTHER if name == OTHERS else name, safe="")
    # Browsers take these two out of a path, however they are encoded.
    return f"{kind}?name={segment}" if name in (".", "..") else f"{kind}/{segment}"
