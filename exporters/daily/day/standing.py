"""Compute the status of the objectives with a budget at a moment, from the state.

A shell: it reads Redis and does not write.
"""

import asyncio
from collections.abc import Mapping, Sequence

import redis.asyncio as aioredis

from exporters.daily.day.facts import Risk
from exporters.daily.day.risks import risks_of
from exporters.metrics.objectives import engine_for
from exporters.reference.customers import Customer, Customers
from slo.engine.minute_count_store import MinuteCountStore
from slo.policy.policy import Policy
from streams.config.settings import Settings
from streams.store.contract import StoreError
from streams.store.reader import StateSnapshot

_READINGS_MAX = 10_000


class Standing:
    """The objectives of one consumer group and topic; customers in them by token."""

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy],
        client: "aioredis.Redis",
        customers: Mapping[str, Customer],
    ) -> None:
        self._settings, self._policies, self._client = settings, policies, client
        self._fee_of = Customers(customers).fee_of
        self._ledgers = MinuteCountStore(client, settings.kafka.group, settings.kafka.topic)
        self._judged: tuple[object, tuple[Risk, ...]] | None = None

    def forget(self) -> None:
        """Judge anew, as after a failed reading."""
        self._judged = None

    async def at(self, snapshot: StateSnapshot, at_s: float, versions: object) -> tuple[Risk, ...]:
        """Return their status at a moment.

        The last answer is reused while `versions` of the counts and the decisions of people stay
        the same. Raises StoreError.
        """
        same = versions, tuple(await self._ledgers.windows())
        if self._judged is None or self._judged[0] != same:
            self._judged = same, await self.judge(snapshot, at_s)
        return self._judged[1]

    async def judge(self, snapshot: StateSnapshot, at_s: float) -> tuple[Risk, ...]:
        """Return their status, computed anew. Raises StoreError."""
        engine = engine_for(self._settings, self._policies, self._client)
        for _ in range(_READINGS_MAX):
            found = await engine.refresh(snapshot, at_s, keep=False)
            if found is not None:
                return risks_of(found, self._fee_of)
            await asyncio.sleep(0)
        raise StoreError("the state is rewritten faster than it can be read")
