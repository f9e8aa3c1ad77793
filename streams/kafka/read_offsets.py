"""Replaces the offsets that Faust keeps of what it has delivered."""

from typing import Any

from faust.types import TP


class NoReadOffsets(dict[TP, Any]):
    """Read offsets that stay empty.

    Faust drops messages below the offset it delivered last, also after a seek back of ours.
    streams/worker/admission.py decides which batch is the next one.
    """

    def __missing__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: Any) -> None:
        pass

    def update(self, *args: Any, **kwargs: Any) -> None:
        pass
