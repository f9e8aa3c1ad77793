"""Where a incident is: the region, model, channel or tier that explains most of what is bad.

Pure. Every request is bad (failed, slow) or good. Of all ways to split the requests into a few
places of one kind and the rest, the best has the largest likelihood ratio: that rewards both a
sharp contrast and how much of the bad is explained.

    region   bad/all        model   bad/all       a regional outage splits well by region,
    eu-west  98/100         large   50/150        and every model has its share of it
    us-east   0/200         small   48/150
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import log
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.state.tables import Ints

# Of equally good explanations the first; a model in one region only where that says more.
DIMENSIONS = ("region", "model", "channel", "service_tier", "model and region")
_WORDS = {"service_tier": "tier"}
_MOST_NAMES = 3  # places of one kind that are blamed together
_CONTRAST = 2.0  # odds of being bad, against elsewhere
_BETTER = 0.75  # how bad it may be elsewhere, against overall; two places may fail at once
_EVIDENCE = 8.0  # log likelihood ratio: chance alone gives this once in 16,000 looks
_FEWEST_BAD = 3


class Split(NamedTuple):
    """Requests by place of one kind."""

    names: Sequence[str]
    bad: Ints
    total: Ints


@dataclass(frozen=True, slots=True)
class Localisation:
    """The places that are blamed, and how it is there and elsewhere."""

    dimension: str
    names: tuple[str, ...]  # the worst first
    bad: int
    total: int
    bad_elsewhere: int
    total_elsewhere: int

    @property
    def share(self) -> float:
        """Bad ones of all in these places."""
        return self.bad / self.total

    @property
    def share_elsewhere(self) -> float | None:
        """Bad ones of all elsewhere; None where there is nothing else."""
        return self.bad_elsewhere / self.total_elsewhere if self.total_elsewhere else None

    @property
    def good(self) -> Fraction:
        """Good ones of all in these places, exactly: held against targets."""
        return 1 - Fraction(self.bad, self.total)

    @property
    def good_elsewhere(self) -> Fraction | None:
        """The same elsewhere; None where there is nothing else."""
        return (
            1 - Fraction(self.bad_elsewhere, self.total_elsewhere) if self.total_elsewhere else None
        )

    @property
    def explained(self) -> float:
        """How many of all bad ones are in these places."""
        return self.bad / (self.bad + self.bad_elsewhere)

    @property
    def words(self) -> str:
        """`region eu-west-1`, `models a and b`, `model a in region b`."""
        if self.dimension == DIMENSIONS[-1]:
            return self.names[0]  # a model in a region
        word = _WORDS.get(self.dimension, self.dimension)
        return f"{word if len(self.names) == 1 else word + 's'} {' and '.join(self.names)}"


def localise(splits: Mapping[str, Split], allowed: float) -> Localisation | None:
    """The best explanation; None where it is much the same everywhere.

    `allowed`: share of bad ones with which all would be well. Elsewhere it must be kept, or it
    must be clearly better there than overall.
    """
    best, best_score = None, _EVIDENCE
    for dimension in DIMENSIONS:
        if dimension in splits:
            for score, found in _candidates(dimension, splits[dimension], allowed):
                if score > best_score * (1 + 1e-9):
                    best, best_score = found, score
    return best


def _candidates(
    dimension: str, split: Split, allowed: float
) -> Iterator[tuple[float, Localisation]]:
    bad_all, total_all = int(split.bad.sum()), int(split.total.sum())
    fewest = max(_FEWEST_BAD, bad_all // 20)
    suspects = np.flatnonzero(split.bad >= fewest)
    order = suspects[np.argsort(-split.bad[suspects] / split.total[suspects], kind="stable")]
    bad = total = 0
    most = 1 if dimension == DIMENSIONS[-1] else _MOST_NAMES
    for count, at in enumerate(order[:most].tolist(), 1):
        bad, total = bad + int(split.bad[at]), total + int(split.total[at])
        found = Localisation(
            dimension,
            tuple(split.names[one] for one in order[:count].tolist()),
            *(bad, total, bad_all - bad, total_all - total),
        )
        elsewhere = found.share_elsewhere
        if elsewhere is None:
            return
        overall = bad_all / total_all
        if (
            bad * (found.total_elsewhere - found.bad_elsewhere)
            >= _CONTRAST * found.bad_elsewhere * (total - bad)
            and found.share > elsewhere
            and elsewhere <= max(allowed, _BETTER * overall)
        ):
            score = (
                _likelihood(bad, total)
                + _likelihood(found.bad_elsewhere, found.total_elsewhere)
                - _likelihood(bad_all, total_all)
            )
            yield score, found


def _likelihood(bad: int, total: int) -> float:
    """Log likelihood of so many bad ones at their own rate."""
    good = total - bad
    return sum(part * log(part / total) for part in (bad, good) if part)


class SeriesGroups:
    """Which places each series (model, region, channel, tier) belongs to. TileValues only grow."""

    def __init__(self) -> None:
        self._codes: dict[str, list[int]] = {dimension: [] for dimension in DIMENSIONS}
        self._numbers: dict[str, dict[str, int]] = {dimension: {} for dimension in DIMENSIONS}

    def follow(self, names: Sequence[tuple[str, ...]]) -> None:
        """Learn the names that came since the last call."""
        for model, region, channel, tier in names[len(self._codes["region"]) :]:
            both = f"model {model} in region {region}"
            places = (region, model, channel, tier, both)
            for dimension, place in zip(DIMENSIONS, places, strict=True):
                numbers = self._numbers[dimension]
                self._codes[dimension].append(numbers.setdefault(place, len(numbers)))

    def splits(self, bad: Ints, total: Ints) -> dict[str, Split]:
        """Counts by series as counts by place."""
        found = {}
        for dimension, codes in self._codes.items():
            names = list(self._numbers[dimension])
            sums = np.zeros((2, len(names)), np.int64)
            np.add.at(sums[0], codes, bad)
            np.add.at(sums[1], codes, total)
            found[dimension] = Split(names, sums[0], sums[1])
        return found

    def inside(self, place: Localisation) -> npt.NDArray[np.bool_]:
        """Which series are in some places."""
        numbers = self._numbers[place.dimension]
        blamed = [numbers[name] for name in place.names]
        return np.isin(np.array(self._codes[place.dimension], np.int64), blamed)
