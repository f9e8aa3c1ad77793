"""Root-cause localisation: the region, model, channel or tier that explains most bad requests.

Pure. Every request is bad (failed, slow) or good. Of all ways to split the requests into a few
places of one kind and the rest, the best has the largest likelihood ratio: that rewards both a
sharp contrast and a large share of the bad requests.

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

from exporters import formatting as fmt
from exporters.board.facts import Where
from streams.state.tables import Ints

# Of equally good explanations the first wins; a model in one region only if that explains more.
DIMENSIONS = ("region", "model", "channel", "service_tier", "model and region")
# Of the requests, not of their series, so SeriesGroups does not have it.
STREAM = "stream"
STREAM_NAMES = ("streamed", "unstreamed")
_WORDS = {"service_tier": "tier"}
_NAMES_MAX = 3  # places of one kind that are blamed together
_CONTRAST_MIN = 2.0  # odds of a bad request, against elsewhere
_ELSEWHERE_MAX = 0.75  # share of bad ones elsewhere, against overall; two places may fail at once
EVIDENCE_MIN = 8.0  # log likelihood ratio; by chance it occurs once in 16,000 refreshes
_BAD_MIN = 3
_HYSTERESIS = 1.5  # by which the evidence for another place must be better to replace the last


class Split(NamedTuple):
    """Requests by place of one kind."""

    names: Sequence[str]
    bad: Ints
    total: Ints


@dataclass(frozen=True, slots=True)
class Localisation:
    """The places that are blamed, with the requests there and elsewhere."""

    dimension: str
    names: tuple[str, ...]  # the worst first
    bad: int
    total: int
    bad_elsewhere: int
    total_elsewhere: int

    @property
    def share(self) -> float:
        return self.bad / self.total

    @property
    def share_elsewhere(self) -> float | None:
        return self.bad_elsewhere / self.total_elsewhere if self.total_elsewhere else None

    @property
    def good(self) -> Fraction:
        """Return the share of good requests here, exact for the comparison with a target."""
        return 1 - Fraction(self.bad, self.total)

    @property
    def good_elsewhere(self) -> Fraction | None:
        if not self.total_elsewhere:
            return None
        return 1 - Fraction(self.bad_elsewhere, self.total_elsewhere)

    @property
    def explained(self) -> float:
        """Return the share of all bad requests that are in these places."""
        return self.bad / (self.bad + self.bad_elsewhere)

    @property
    def words(self) -> str:
        """Return the places: `region eu-west-1`, `models a and b`, `model a in region b`."""
        if self.dimension == DIMENSIONS[-1]:
            return self.names[0]  # a model in a region
        word = _WORDS.get(self.dimension, self.dimension)
        return f"{word if len(self.names) == 1 else word + 's'} {' and '.join(self.names)}"


def localise(
    splits: Mapping[str, Split],
    allowed: float,
    last: Localisation | None = None,
    share_min: float = 0.0,
) -> Localisation | None:
    """Return the best explanation, or None if bad requests are spread evenly.

    `allowed`: the share of bad requests that is acceptable. The share elsewhere must be within it,
    or clearly better than overall. `last`: the explanation of the last refresh, which stays unless
    another one is clearly better. `share_min`: a place with a smaller share of bad requests is not
    blamed, nor together with a worse one.
    """
    last_place = None if last is None else (last.dimension, frozenset(last.names))
    # Weaker evidence than the minimum never wins.
    best, best_score = None, EVIDENCE_MIN
    for dimension in (*DIMENSIONS, STREAM):
        if dimension in splits:
            for score, candidate in _candidates(dimension, splits[dimension], allowed, share_min):
                # Two explanations that are about as good would alternate.
                if (dimension, frozenset(candidate.names)) == last_place:
                    score *= _HYSTERESIS
                # The margin keeps the order of DIMENSIONS between equal explanations.
                if score > best_score * (1 + 1e-9):
                    best, best_score = candidate, score
    return best


def _candidates(
    dimension: str, split: Split, allowed: float, share_min: float
) -> Iterator[tuple[float, Localisation]]:
    """Yield the worst place, the two worst, ... with the evidence for each."""
    bad_all, total_all = int(split.bad.sum()), int(split.total.sum())
    # A place with less than a twentieth of the bad requests does not explain them.
    is_suspect = split.bad >= max(_BAD_MIN, bad_all // 20)
    suspects = np.flatnonzero(is_suspect & (split.bad >= share_min * split.total))
    order = suspects[np.argsort(-split.bad[suspects] / split.total[suspects], kind="stable")]
    # Places of one kind are blamed together, the worst first: sums of the first, first two, ...
    bad = total = 0
    names_max = 1 if dimension == DIMENSIONS[-1] else _NAMES_MAX
    for count, at in enumerate(order[:names_max].tolist(), 1):
        bad, total = bad + int(split.bad[at]), total + int(split.total[at])
        candidate = Localisation(
            dimension,
            tuple(split.names[place] for place in order[:count].tolist()),
            *(bad, total, bad_all - bad, total_all - total),
        )
        elsewhere = candidate.share_elsewhere
        # Without requests elsewhere there is no contrast.
        if elsewhere is None:
            return
        overall = bad_all / total_all
        if (
            # The odds ratio as a product, as no request elsewhere may be bad.
            bad * (candidate.total_elsewhere - candidate.bad_elsewhere)
            >= _CONTRAST_MIN * candidate.bad_elsewhere * (total - bad)
            and candidate.share > elsewhere
            and elsewhere <= max(allowed, _ELSEWHERE_MAX * overall)
        ):
            score = (
                _log_likelihood(bad, total)
                + _log_likelihood(candidate.bad_elsewhere, candidate.total_elsewhere)
                - _log_likelihood(bad_all, total_all)
            )
            yield score, candidate


def _log_likelihood(bad: int, total: int) -> float:
    """Return the log likelihood of `bad` of `total` requests at their own rate."""
    good = total - bad
    return sum(part * log(part / total) for part in (bad, good) if part)


class SeriesGroups:
    """The places that each series (model, region, channel, tier) belongs to. Numbers only grow.

    Also the last answer to each question, so that the named place does not alternate.
    """

    def __init__(self) -> None:
        self._last: dict[str, Localisation | None] = {}
        self._codes: dict[str, list[int]] = {dimension: [] for dimension in DIMENSIONS}
        self._numbers: dict[str, dict[str, int]] = {dimension: {} for dimension in DIMENSIONS}
        self._cells: dict[str, Where] = {}  # words of a model in a region -> both names

    def follow(self, names: Sequence[tuple[str, ...]]) -> None:
        """Add the series that are new since the last call."""
        for model, region, channel, tier in names[len(self._codes["region"]) :]:
            both = f"model {model} in region {region}"
            self._cells[both] = (("model", model), ("region", region))
            places = (region, model, channel, tier, both)
            for dimension, place in zip(DIMENSIONS, places, strict=True):
                numbers = self._numbers[dimension]
                self._codes[dimension].append(numbers.setdefault(place, len(numbers)))

    def splits(self, bad: Ints, total: Ints) -> dict[str, Split]:
        """Return counts by series as counts by place, for each kind of place."""
        splits = {}
        for dimension, codes in self._codes.items():
            names = list(self._numbers[dimension])
            sums = np.zeros((2, len(names)), np.int64)
            # Unlike sums[0][codes] += bad, add.at counts every series of a place.
            np.add.at(sums[0], codes, bad)
            np.add.at(sums[1], codes, total)
            splits[dimension] = Split(names, sums[0], sums[1])
        return splits

    def localise(
        self, question: str, splits: Mapping[str, Split], allowed: float, share_min: float = 0.0
    ) -> Localisation | None:
        """Return the best explanation, as `localise`, with a margin for the last answer."""
        where = localise(splits, allowed, self._last.get(question), share_min)
        self._last[question] = where
        return where

    def inside(self, place: Localisation) -> npt.NDArray[np.bool_]:
        """Return a mask of the series in the blamed places."""
        # Names of the blamed places, as the codes that the series have.
        numbers = self._numbers[place.dimension]
        blamed = [numbers[name] for name in place.names]
        return np.isin(np.array(self._codes[place.dimension], np.int64), blamed)

    def where(self, place: Localisation | None) -> Where:
        """Return the blamed places by their dimensions; empty if there is none."""
        if place is None:
            return ()
        if place.dimension == DIMENSIONS[-1]:
            return self._cells[place.names[0]]
        return tuple((place.dimension, name) for name in place.names)


# -- words -----------------------------------------------------------------------------------------


def elsewhere_words(where: Localisation) -> str:
    """Return `; elsewhere 0.1 %`, the bad share outside the places; empty if all is inside."""
    share = where.share_elsewhere
    return "" if share is None else f"; elsewhere {fmt.percent(share)}"


def verb(where: Localisation, singular: str, plural: str) -> str:
    """Return the verb that agrees with the number of places."""
    return singular if len(where.names) == 1 else plural
