"""Contexts of requests as public tables of prices name them. Pure."""

from collections.abc import Mapping
from typing import Any


def tier_of_context(context: Mapping[str, Any]) -> str | None:
    """Return the service tier that a context of a request means; None for the standard one."""
    if context.get("processing") == "batch":
        return "batch"
    # OpenAI has a service tier named fast, which is another thing than Anthropic's fast mode.
    if context.get("speed") == "fast":
        return "fast_mode"
    tier = context.get("service_tier")
    return None if tier is None else str(tier)
