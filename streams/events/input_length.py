"""Classes of input length: the stretches between the limits that policies name.

Pure. The name of a class contains its bounds, so that counts keep their meaning if the limits
change: with limits of 8,000 and 128,000 tokens the classes are `<=8000`, `>8000 <=128000` and
`>128000`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streams.events.fields import UNKNOWN

NOT_CLASSIFIED = ""  # the class of all requests while no limit is counted


def class_names(limits: Sequence[int]) -> list[str]:
    """Return the names of the classes that rising limits, in tokens, make; `unknown` is last."""
    above = ["", *(f">{limit} " for limit in limits)]
    at_most = [*(f"<={limit}" for limit in limits), ""]
    return [(low + high).rstrip() for low, high in zip(above, at_most, strict=True)] + [UNKNOWN]


def class_numbers(
    input_tokens: npt.NDArray[np.int64], limits: Sequence[int]
) -> npt.NDArray[np.int32]:
    """Return the index into `class_names` of each request; negative tokens are unknown."""
    numbers = np.searchsorted(np.array(limits, np.int64), input_tokens, side="left")
    return np.where(input_tokens < 0, len(limits) + 1, numbers).astype(np.int32)


def lengths_of(name: str) -> tuple[int, int | None] | None:
    """Return the least and the greatest number of input tokens of a class, both included.

    None as the greatest stands for no limit. None for the classes without a length.
    """
    if name in (NOT_CLASSIFIED, UNKNOWN):
        return None
    least, greatest = 0, None
    for bound in name.split(" "):
        if bound.startswith("<="):
            greatest = int(bound[2:])
        else:
            least = int(bound[1:]) + 1
    return least, greatest
