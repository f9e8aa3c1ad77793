"""Names to numbers, per partition: series and customer rows, with a cap on distinct names.

Pure. Numbers are given out in log order and never taken back, so replaying a partition gives every
name the same number. A name beyond a limit is counted as `__other__` and as overflowed: a
flood of invented names costs precision, never memory.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from streams.events.columns import SeriesKey as SeriesKey
from streams.events.fields import OTHER as OTHER
from streams.events.fields import UNKNOWN
from streams.events.input_length import NOT_CLASSIFIED
from streams.state.tables import Ints

# The published dimensions of a series. Its key has two more, which only objectives look at; all
# published numbers are sums over them.
SERIES_DIMENSIONS = ("model", "region", "channel", "service_tier")
KEY_DIMENSIONS = (*SERIES_DIMENSIONS, "requested_service_tier", "input_length")
CustomerKey = tuple[str, str]
CHUNK = 512  # names in one field of the store
_SERVED_AT = KEY_DIMENSIONS.index("service_tier")
_NEVER_MS = 2**53  # later than all events
_REQUESTED_AT = KEY_DIMENSIONS.index("requested_service_tier")


def padded_series(name: Sequence[str]) -> SeriesKey:
    """Return the key of stored names; states before schema 4 have the published dimensions only."""
    model, region, channel, served, *rest = name
    requested, length = rest or (served, NOT_CLASSIFIED)
    return (model, region, channel, served, requested, length)


class ReservedNames(NamedTuple):
    """Names that always have rows of their own, whatever came before them.

    The first four in the order of SERIES_DIMENSIONS; `service_tier` is also about requested tiers.
    """

    model: frozenset[str] = frozenset()
    region: frozenset[str] = frozenset()
    channel: frozenset[str] = frozenset()
    service_tier: frozenset[str] = frozenset()
    customer: frozenset[str] = frozenset()  # ids, as events have them


class NameLimits(NamedTuple):
    """Most distinct values; the first four in the order of SERIES_DIMENSIONS.

    `service_tier` also limits the requested tiers, apart from the served ones. Reserved names are
    among them, also before they come. An event whose sender stamped its record may end
    `future_tolerance_ms` after the watermark.
    """

    model: int
    region: int
    channel: int
    service_tier: int
    series: int
    customers: int
    customer_models: int = 100_000  # pairs
    reserved: ReservedNames = ReservedNames()
    future_tolerance_ms: int = 0


def customer_hasher(secret: bytes) -> Callable[[str], str]:
    """Replace customer ids by HMAC-SHA-256, cut to 96 bits, in hex.

    A plain hash of so few possible ids could be undone by trying them all; a keyed one cannot
    without the key. `unknown` stays readable: it is the name of no customer.
    """

    def hashed(customer_id: str) -> str:
        if customer_id == UNKNOWN:
            return UNKNOWN
        return hmac.new(secret, customer_id.encode(), hashlib.sha256).hexdigest()[:24]

    return hashed


class CustomerTokens:
    """The tokens of customers in the state, which stay the same if the key of their ids is changed.

    A token is the hash of an id by the key under which the customer was first counted. While the
    key before is known too, the hash by the new key is stored with the token of each customer that
    is counted. Later the new key alone leads to the token:

        only key 1        h1(id)                        is the token
        keys 2 and 1      h1(id), and h2(id) -> h1(id)  is stored
        only key 2        h2(id) -> h1(id)              the same token
    """

    def __init__(
        self,
        hashed: Callable[[str], str],
        before: Callable[[str], str] | None = None,
        kept: Mapping[str, str] | None = None,
    ) -> None:
        """`hashed`, `before`: by the present key and the one before. `kept`: hash -> token."""
        self._hashed, self._before = hashed, before
        self._kept = dict(kept or {})
        self.unstored: dict[str, str] = {}  # hash by the present key -> token

    def __call__(self, customer_id: str) -> str:
        """Return the token of a customer."""
        hashed = self._hashed(customer_id) if self._before is None else self._before(customer_id)
        return self._kept.get(hashed, hashed)

    def keep(self, customer_id: str) -> None:
        """Note that a customer has a row, and so needs its token when the key before is gone."""
        if self._before is None:
            return
        hashed, token = self._hashed(customer_id), self(customer_id)
        if self._kept.get(hashed, hashed) != token:
            self.unstored[hashed] = token

    def confirm(self, stored: Mapping[str, str]) -> None:
        """Note that the store has some of `unstored`."""
        self._kept |= stored
        for hashed in stored:
            self.unstored.pop(hashed, None)


class Registry:
    """The names of one partition. Lists rise only; an entry's place is its number."""

    def __init__(
        self,
        limits: NameLimits,
        hashed: Callable[[str], str],
        series: Sequence[SeriesKey] = (),
        customers: Sequence[CustomerKey] = (),
    ) -> None:
        """`hashed`: returns the token of a customer's id; CustomerTokens, or a key that stays."""
        self._limits = limits
        self.tokens = hashed if isinstance(hashed, CustomerTokens) else CustomerTokens(hashed)
        self.series: list[SeriesKey] = []
        self.customers: list[CustomerKey] = []
        self.overflowed: Counter[str] = Counter()  # events, by dimension
        self._series_number: dict[SeriesKey, int] = {}
        self._customer_number: dict[CustomerKey, int] = {}
        # The input length, last in a key, has few classes and no limit.
        self._seen: tuple[set[str], ...] = tuple(set() for _ in KEY_DIMENSIONS[:-1])
        self._customers: set[str] = set()
        kept = limits.reserved
        self._reserved = (*kept[: len(SERIES_DIMENSIONS)], kept.service_tier)
        self._reserved_customers = frozenset(map(self.tokens, kept.customer))
        for customer_id in kept.customer:  # they have rows before they come
            self.tokens.keep(customer_id)
        # Their rows stay free until they come.
        self._awaited = tuple(map(set, self._reserved))
        self._awaited_customers = set(self._reserved_customers)
        self._hash_of: dict[str, str] = {}
        for key in series:
            self._add_series(key)
        for customer in customers:
            self._add_customer(customer)
        self.reserved_since_ms: dict[str, dict[str, int]] = {}  # by dimension and name
        self.restore({}, {}, None)

    def restore(
        self,
        overflowed: Mapping[str, int],
        reserved_since_ms: Mapping[str, Mapping[str, int]],
        watermark_ms: int | None,
    ) -> None:
        """Continue the counts of overflowed events, and note which names are reserved by now.

        `reserved_since_ms`: by dimension and name, the event time from which on no event of that
        name was counted as `__other__`; 0 if none ever was. Customers by their token;
        `customer_model` has the models, as to pairs with reserved customers. Names that are no
        longer reserved stay in it; once an event of them is counted as `__other__`, as _NEVER_MS.
        """
        self.overflowed.update(overflowed)
        reserved = dict(zip(SERIES_DIMENSIONS, self._reserved, strict=False))
        reserved["customer"] = self._reserved_customers
        # A pair always has a row if both names are reserved: models, apart from their series.
        reserved["customer_model"] = self._reserved[0]
        # A name with a row is never beyond its own limit. Not so requested tiers: a folded one gets
        # its row with a request that was served by it.
        rows: dict[str, set[str]] = dict(zip(SERIES_DIMENSIONS[:-1], self._seen, strict=False))
        rows["customer"] = self._customers
        for dimension, names in reserved.items():
            combined = "customer_model" if dimension.startswith("customer") else "series"
            folded = frozenset(names)
            if not self.overflowed[combined]:
                folded -= names if not self.overflowed[dimension] else rows.get(dimension, set())
            now_ms = (watermark_ms or 0) + self._limits.future_tolerance_ms
            # Also names that no policy reserves now: it may come back, as after an unreadable file.
            since_ms = dict(reserved_since_ms.get(dimension, {}))
            for name in names:
                if since_ms.get(name, _NEVER_MS) == _NEVER_MS:
                    since_ms[name] = now_ms if name in folded or name in since_ms else 0
            if since_ms:
                self.reserved_since_ms[dimension] = dict(sorted(since_ms.items()))

    def series_numbers(self, keys: Sequence[SeriesKey], events: Sequence[int]) -> Ints:
        """Number of each of a batch's distinct series, in order of first appearance.

        `events`: how many events of the batch belong to each.
        """
        numbers = np.empty(len(keys), np.int64)
        for at, key in enumerate(keys):
            number = self._series_number.get(key)
            if number is None:
                number = self._new_series(key, events[at])
            numbers[at] = number
        return numbers

    def knows(self, key: SeriesKey) -> bool:
        """Return whether a series is counted under its own name."""
        return key in self._series_number

    def customer_numbers(self, keys: Sequence[CustomerKey], events: Sequence[int]) -> Ints:
        """Number of each of a batch's distinct (customer id, model); see `series_numbers`, which
        must have seen the same batch first, as it decides which models are overflowed."""
        number_of, hash_of = self._customer_number.get, self._hash_of.get
        # Most pairs of a batch have been counted before, under their own names; no hash is empty.
        numbers = [number_of((hash_of(customer_id, ""), model), -1) for customer_id, model in keys]
        for at, number in enumerate(numbers):
            if number < 0:
                numbers[at] = self._new_customer(keys[at], events[at])
        return np.array(numbers, np.int64)

    def _hash(self, customer_id: str) -> str:
        found = self._hash_of.get(customer_id)
        if found is None:
            if len(self._hash_of) >= 2 * self._limits.customers:
                self._hash_of.clear()  # a flood of ids must not fill the memory
            found = self._hash_of[customer_id] = self.tokens(customer_id)
        return found

    def _new_series(self, key: SeriesKey, events: int) -> int:
        # Requested tiers have a limit as large as that of the served ones.
        limits = self._limits
        tiers = limits.service_tier
        caps = (limits.model, limits.region, limits.channel, tiers, tiers)
        kept = [
            name
            if name in seen or name in reserved or name == OTHER or len(seen) + len(awaited) < cap
            else OTHER
            for name, seen, reserved, awaited, cap in zip(
                key, self._seen, self._reserved, self._awaited, caps, strict=False
            )
        ]
        # The tier of a request that was served as requested has one name.
        if key[_REQUESTED_AT] == key[_SERVED_AT]:
            kept[_REQUESTED_AT] = kept[_SERVED_AT]
        changed = [name != given for name, given in zip(kept, key, strict=False)]
        changed[_SERVED_AT] |= changed.pop(_REQUESTED_AT)
        for dimension, is_other in zip(SERIES_DIMENSIONS, changed, strict=True):
            if is_other:
                self.overflowed[dimension] += events
        model, region, channel, served, requested = kept
        # Classes of length are few, and an objective needs the class of every request.
        length = key[-1]
        overflowed = (model, region, channel, served, requested, length)
        model, region, channel, served, requested = [
            name if name in reserved else OTHER
            for name, reserved in zip(kept, self._reserved, strict=True)
        ]
        only_reserved = (model, region, channel, served, requested, length)
        full = len(self.series) >= self._limits.series
        if full and overflowed not in self._series_number and overflowed != only_reserved:
            self.overflowed["series"] += events
            overflowed = only_reserved
        # Served and requested tiers are reserved together.
        dimensions = (*SERIES_DIMENSIONS, "service_tier")
        for dimension, name, given in zip(dimensions, overflowed, key, strict=False):
            if name != given:
                self._note_folded(dimension, given)
        number = self._series_number.get(overflowed)
        return self._add_series(overflowed) if number is None else number

    def _add_series(self, key: SeriesKey) -> int:
        self._series_number[key] = len(self.series)
        self.series.append(key)
        for name, seen, awaited in zip(key[:-1], self._seen, self._awaited, strict=True):
            if name != OTHER:
                seen.add(name)
                awaited.discard(name)
        return len(self.series) - 1

    def _new_customer(self, key: CustomerKey, events: int) -> int:
        customer_id, model = key
        customer = self._hash(customer_id)
        is_reserved = customer in self._reserved_customers
        held = len(self._customers) + len(self._awaited_customers)
        if not (is_reserved or customer in self._customers or held < self._limits.customers):
            self.overflowed["customer"] += events
            self._note_folded("customer", customer)
            customer = OTHER
        else:
            self.tokens.keep(customer_id)
        key = (customer, model if model in self._seen[0] else OTHER)
        full = len(self.customers) >= self._limits.customer_models
        is_kept = is_reserved and model in self._reserved[0]
        # The row of other models is always allowed, so that every event has a row.
        if full and not is_kept and key not in self._customer_number and key[1] != OTHER:
            self.overflowed["customer_model"] += events
            if not is_reserved:
                self._note_folded("customer", customer)
            if model not in self._reserved[0]:
                self._note_folded("customer_model", model)
            key = (customer, OTHER)
        number = self._customer_number.get(key)
        return self._add_customer(key) if number is None else number

    def _note_folded(self, dimension: str, name: str) -> None:
        """Note that an event of a name was counted as another, if it ever was reserved."""
        since_ms = self.reserved_since_ms.get(dimension, {})
        if name in since_ms:
            since_ms[name] = _NEVER_MS

    def _add_customer(self, key: CustomerKey) -> int:
        self._customer_number[key] = len(self.customers)
        self.customers.append(key)
        if key[0] != OTHER:
            self._customers.add(key[0])
            self._awaited_customers.discard(key[0])
        return len(self.customers) - 1
