"""Where the recorded public traces are, if this checkout has them beside it."""

import json
from typing import Any

import pytest

from tests.support.paths import ROOT

TRACES = ROOT.parent / "shared" / "data"

needs_traces = pytest.mark.skipif(
    not TRACES.is_dir(), reason="the recorded public traces are not beside this checkout"
)


def reference(trace: str) -> dict[str, Any]:
    """The published or recounted answers for one trace."""
    answers: dict[str, Any] = json.loads((TRACES / trace / "reference.json").read_text())
    return answers
