"""Holds the stored state against the truth, at any moment and whatever has just happened.

I1  a partition's state is the recount of its log before the stored offset, slice by slice
I2  in the end counted + refused + duplicates are all that was produced, and nothing is lost
I3  owners' epochs only rise, and I4 offsets never fall, as long as Redis has lost nothing
"""

import threading
from collections.abc import Callable, Iterable
from typing import Self, cast

import redis

from streams.state.slices import Aggregate
from streams.state.snapshot import slice_field
from tests.chaos.truth import Counts, Truth
from tests.support.oracle_counts import readable
from tests.support.shelf import Shelf
from tests.support.worker_process import State

LOOK_S = 0.2
BESIDE = {"owner", "offset", "flush", "meta", "index", "totals"}


class Wrong(AssertionError):
    """An invariant does not hold."""


class Checker:
    """Compares states with the truth. `behind`: states left out because the truth had been told
    further already, before Redis lost some of them."""

    def __init__(self, state: State, client: redis.Redis, truth: Truth) -> None:
        self._state, self._client, self._truth = state, client, truth
        self.compared = self.behind = 0

    def check(self, partitions: Iterable[int]) -> None:
        """I1 for every partition, each as it is in one atomic read."""
        shelves = {partition: self._shelf(partition) for partition in partitions}
        self._truth.read_to({one: shelf.offset for one, shelf in shelves.items()})
        for partition, shelf in shelves.items():
            if shelf.offset < self._truth[partition].offset:
                self.behind += 1
            elif shelf.fields:
                self._compare(partition, shelf)
                self.compared += 1

    def _shelf(self, partition: int) -> Shelf:
        found: dict[bytes, bytes] = self._client.hgetall(self._state.key(partition))  # type: ignore[assignment]
        shelf = Shelf()
        if b"meta" in found:
            shelf.fields = {name.decode(): value for name, value in found.items()}
            shelf.offset = int(shelf.fields["offset"])
        return shelf

    def _compare(self, partition: int, shelf: Shelf) -> None:
        truth, meta = self._truth[partition], shelf.meta
        where = f"partition {partition} at offset {shelf.offset}"
        expected, index = truth.slices(), shelf.index
        _same(f"{where}: slices", set(index), set(expected))
        names = {
            *BESIDE,
            *(name for name in shelf.fields if name.startswith(("series:", "cubes:"))),
        }
        _same(f"{where}: fields", set(shelf.fields) - names, {slice_field(of) for of in index})
        for of, counts in expected.items():
            _same(f"{where}: {of}", shelf.readable([of]), counts)
        total = readable(Aggregate.unpack(shelf.fields["totals"]), *shelf.names())
        for name in ("series", "refused"):
            _same(f"{where}: {name} of the totals", total[name], truth.everything()[name])
        _same(f"{where}: watermark", meta.watermark_ms, truth.watermark_ms)
        _same(f"{where}: merged until", list(meta.merged_until_s), truth.merged_until_s())
        _same(f"{where}: unplaced", meta.unplaced, dict(truth.unplaced))
        _same(f"{where}: lost", (meta.lost_records, meta.gaps, meta.begun_at), (0, (), 0))

    def counted(self, partition: int) -> Counts:
        """Requests counted, refused, duplicates and lost of one partition, by its totals."""
        shelf = self._shelf(partition)
        if not shelf.fields:
            return {"requests": 0, "refused": 0, "duplicate": 0, "lost": 0, "rebuilt": 0}
        total = readable(Aggregate.unpack(shelf.fields["totals"]), *shelf.names())
        refused = dict(total["refused"])
        return {
            "requests": sum(
                count
                for series in total["series"].values()
                for name, count in series.items()
                if not name.endswith((" tokens", " us")) and not name.startswith("known ")
            ),
            "duplicate": refused.pop("duplicate", 0),
            "refused": sum(refused.values()) + sum(shelf.meta.unplaced.values()),
            "lost": shelf.meta.lost_records,
            "rebuilt": shelf.meta.rebuilt,
        }


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{what}: {_difference(found, expected)}")


def _difference(found: object, expected: object, path: str = "") -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        told = [
            _difference(found.get(key), expected.get(key), f"{path}/{key}")
            for key in sorted({*found, *expected}, key=str)
            if found.get(key) != expected.get(key)
        ]
        return "; ".join(told[:5]) + (f"; and {len(told) - 5} more" if len(told) > 5 else "")
    if isinstance(found, set) and isinstance(expected, set):
        more, less = sorted(found - expected, key=str), sorted(expected - found, key=str)
        return f"{path} {len(more)} too many {more[:5]}, {len(less)} missing {less[:5]}"
    return f"{path} is {found}, not {expected}"


class Watch:
    """Looks at owners and offsets all the time, in a thread: I3 and I4.

    `suspend` before Redis is made to lose something, `resume` after: another history begins.
    """

    def __init__(
        self, state: State, client: redis.Redis, partitions: Callable[[], Iterable[int]]
    ) -> None:
        self.state, self._client, self._partitions = state, client, partitions
        self._looking, self._suspended = threading.Lock(), False
        self._ended = threading.Event()
        self._seen: dict[int, tuple[int, int]] = {}
        self.looks = self.owners = 0
        self.offsets: dict[int, int] = {}
        self.wrong: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def suspend(self) -> None:
        """Look away; returns when no look is under way."""
        with self._looking:
            self._suspended = True

    def resume(self) -> None:
        """Look again, at a history that begins anew."""
        with self._looking:
            self._seen.clear()
            self._suspended = False

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S) and self.wrong is None:
            with self._looking:
                if not self._suspended:
                    try:
                        self._look()
                    except Exception as error:  # the driver raises it
                        self.wrong = error

    def _look(self) -> None:
        for partition in self._partitions():
            answer = self._client.hmget(self.state.key(partition), ["owner", "offset"])
            owner, offset = cast("list[bytes | None]", answer)
            now = (int((owner or b"0:").split(b":")[0]), int(offset or 0))
            before = self._seen.get(partition, (0, 0))
            if now[0] < before[0] or now[1] < before[1]:
                raise Wrong(f"partition {partition}: (epoch, offset) went back: {before} to {now}")
            self.owners += now[0] > before[0]
            self._seen[partition] = now
            self.offsets[partition] = now[1]
        self.looks += 1
