"""Round the counting of a partition: signs of life, halts, operators' orders, the archive.

No number is made here. Only an operator's order moves the offset at which counting goes on.
"""

import logging
import time
from functools import partial

from streams.config.settings import Worker
from streams.store.contract import Lost, OperatorCommand, Store, StoreError, StoreUnfitError
from streams.store.heartbeat import HaltReason
from streams.worker.admission import Halt
from streams.worker.assignment import Aggregates, Flow, Owned
from streams.worker.recovery import Archive

log = logging.getLogger(__name__)

CHECK_S = 15.0  # between two looks at how the store is set up
ARCHIVE_RETRY_S = 60.0
NUDGE_S = 15.0

CURES = {
    HaltReason.DEAD_LETTERS: "fix what produces them, then `tokenpulse partitions resume` "
    "lets those in the log go to the dead-letter topic",
    HaltReason.UNREADABLE: "`tokenpulse partitions move` goes on after it",
    HaltReason.LOG_TRUNCATED: "`tokenpulse partitions move` to offset 0 counts the new log",
    HaltReason.LOG_RECREATED: "`tokenpulse partitions move` to offset 0 counts the new log",
}


class Upkeep:
    """Looks after the partitions of one worker."""

    def __init__(
        self,
        name: str,
        worker: Worker,
        store: Store,
        flow: Flow,
        archive: Archive | None,
        aggregates: Aggregates,
    ) -> None:
        self._name, self._worker, self._tallies = name, worker, aggregates
        self._store, self._flow, self._archive = store, flow, archive
        self._unfit = ""  # why the store must not be written to
        self._checked_at = time.monotonic()  # it was checked at the start

    # -- halts and orders ------------------------------------------------------------------------

    async def go_on(self, owned: Owned, offset: int) -> None:
        """Read a partition on at an offset."""
        owned.custody.sought(await self._flow.seek(owned.partition, offset))
        self._flow.resume(owned.partition)

    async def nudge(self, owned: Owned) -> None:
        """Ask again for records that are known to be there and do not come: somewhere on the way a
        batch was dropped, and no later one has shown the gap."""
        custody, offset = owned.custody, owned.custody.wanted
        silent_s = time.monotonic() - owned.consumed_at
        if custody.halted or custody.readable <= offset or silent_s < NUDGE_S:
            return
        if owned.counting.locked():  # one has come
            return
        async with owned.counting:
            log.warning(
                "partition %d: nothing has come for %.0f s, reading on at offset %d once more",
                owned.partition,
                silent_s,
                offset,
            )
            owned.consumed_at = time.monotonic()
            self._tallies.reseeks += 1
            await self.go_on(owned, offset)

    def halt(self, owned: Owned, halt: Halt) -> None:
        """Stop reading a partition until an operator has looked at it; nothing is lost."""
        owned.custody.halted, owned.standing_order = halt, None
        self._flow.pause(owned.partition)
        log.error(
            "partition %d: halted at offset %d (%s): %s; %s",
            owned.partition,
            halt.at,
            halt.why,
            halt.detail,
            CURES[halt.why],
        )

    async def _obey(self, owned: Owned, order: OperatorCommand | None) -> None:
        """Do what an operator wants of a halted partition; orders from before it was halted were
        meant for something else."""
        halt, left = owned.custody.halted, order.id if order is not None else ""
        if halt is None:
            return
        if owned.standing_order is None:
            owned.standing_order = left
        if order is None or left in (owned.standing_order, owned.order):
            return
        async with owned.counting:
            owned.order = order.id
            state = owned.state
            if order.kind == "move" and order.to is not None:
                if halt.why in (HaltReason.LOG_TRUNCATED, HaltReason.LOG_RECREATED):
                    state.begin_again(order.to)
                elif order.to >= state.next_offset:
                    state.lose(order.to)
                else:
                    log.error(
                        "partition %d: not moved back to offset %d: what is counted would be "
                        "counted twice",
                        owned.partition,
                        order.to,
                    )
                    return
            else:
                owned.pass_all = True
            owned.custody.resume()
            log.warning(
                "partition %d: goes on at offset %d by order of %s: %s",
                owned.partition,
                state.next_offset,
                order.by,
                order.reason,
            )
            await self.go_on(owned, owned.custody.wanted)

    # -- signs of life ---------------------------------------------------------------------------

    async def pulse(self, owned: Owned) -> None:
        """Leave a sign of life, and see whether an operator has left an order."""
        custody, aggregates, exemplars = owned.custody, self._tallies, owned.exemplars
        halt, told = custody.halted, exemplars.dump()
        try:
            order = await self._store.pulse(
                owned.partition,
                {
                    "at_ms": time.time_ns() // 1_000_000,
                    "worker": self._name,
                    "highwater": custody.highwater,
                    "readable": custody.readable,
                    "flush_s": round(owned.flush_s, 4),
                    "fenced": aggregates.fenced,
                    "conflicts": aggregates.conflicts,
                    "rollbacks": aggregates.rollbacks,
                    "reseeks": aggregates.reseeks,
                    "store_errors": aggregates.store_errors,
                    "halted": HaltReason.STORE_POLICY if self._unfit else halt.why if halt else "",
                    "halted_at": halt.at if halt else owned.state.next_offset,
                    "halted_detail": self._unfit or (halt.detail if halt else ""),
                    "order": owned.order,
                    "seen_ids": len(owned.seen) if owned.seen is not None else 0,
                    "seen_forgotten": owned.seen.forgotten if owned.seen is not None else 0,
                    "archived_ms": owned.state.archived_at_ms,
                    **({"exemplars": told} if told != exemplars.told else {}),
                },
            )
            exemplars.told, exemplars.wanted = told, True
        except StoreError as error:
            log.warning("%s", error)
            return
        await self._obey(owned, order)

    # -- the store and the archive ---------------------------------------------------------------

    @property
    def store_is_fit(self) -> bool:
        """Whether the store keeps what is written to it."""
        return not self._unfit

    async def check_store(self) -> None:
        """Look from time to time whether somebody has set up the store so that it loses state."""
        if time.monotonic() - self._checked_at < CHECK_S:
            return
        self._checked_at = time.monotonic()
        try:
            await self._store.check()
            found = ""
        except StoreUnfitError as error:
            found = str(error)
        except StoreError:
            return  # it does not answer, which others notice
        if found and not self._unfit:
            log.error("nothing more is written: %s", found)
        elif self._unfit and not found:
            log.warning("writing again: the store is fit")
        self._unfit = found

    async def check_state(self, owned: Owned) -> None:
        """Look from time to time whether the store still has what it confirmed; where nothing
        arrives, no checkpoint would find out. Raises Lost."""
        if time.monotonic() - owned.seen_stored_at < CHECK_S:
            return
        owned.seen_stored_at = time.monotonic()
        async with owned.flushing:
            try:
                found = await self._store.look(owned.custody.claim, ["offset"])
            except StoreError:
                return  # it does not answer, which others notice
            if int(found.get("offset", b"0")) != owned.state.stored_offset:
                raise Lost("the store went back to an older state")

    async def archive(self, owned: Owned) -> None:
        """Write a partition's state to the archive, if it is due."""
        state, now_ms = owned.state, time.time_ns() // 1_000_000
        due_ms = state.archived_at_ms + self._worker.archive_interval_s * 1_000
        if self._archive is None or state.stored_offset == 0 or now_ms < due_ms:
            return
        if owned.custody.halted is not None or time.monotonic() < owned.archive_after:
            return
        claim = owned.custody.claim
        try:
            offset = await self._archive.write(
                owned.partition, claim.owner, partial(self._store.look, claim)
            )
        except (StoreError, Lost) as error:
            log.warning("partition %d: not archived: %s", owned.partition, error)
            owned.archive_after = time.monotonic() + ARCHIVE_RETRY_S
            return
        log.info("partition %d: archived as of offset %s", owned.partition, offset)
        async with owned.counting:
            state.mark_archived(now_ms)
