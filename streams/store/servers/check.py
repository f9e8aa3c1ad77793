"""Whether Redis answers, of which kind it is, and whether the state is safe in it."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio as aioredis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from streams.config.redis_address import Kind, RedisAddress
from streams.config.settings import Redis
from streams.errors import Unavailable, reason
from streams.security.clients import redis_kwargs, sentinel_login
from streams.store.servers.client import connect
from streams.store.servers.cluster import ClusterClient, PrimariesInfo
from streams.store.servers.reasons import redis_reason

_Info = Mapping[str, Any]
_NAMES: dict[Kind, str] = {
    "server": "one server",
    "sentinel": "the primary that sentinels name",
    "cluster": "a cluster",
}


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """Facts that Redis tells of itself."""

    address: RedisAddress
    primaries: Sequence[_Info]  # answers to INFO; empty if the user may not ask
    silent: Sequence[str] = ()  # addresses of a cluster's primaries that do not answer

    @property
    def process_id(self) -> int:
        """The process id of one server."""
        return int(self.primaries[0]["process_id"])

    def describe(self) -> str:
        """Return in one line of which kind it is, and how it keeps its data."""
        kind, count = self.address.kind, len(self.primaries) + len(self.silent)
        name = _NAMES[kind]
        encrypted = "with TLS" if self.address.encrypted else "without TLS"
        if not self.primaries:
            return f"{name}, {encrypted}; the user may not ask for more (INFO)"
        if kind == "cluster":
            name += " of 1 primary" if count == 1 else f" of {count} primaries"
        versions = sorted({str(one.get("redis_version", "?")) for one in self.primaries})
        replicas = sum(int(one.get("connected_slaves", 0)) for one in self.primaries)
        limits = [int(one.get("maxmemory", 0)) for one in self.primaries]
        return "; ".join(
            (
                f"{name}, {encrypted}",
                f"version {' and '.join(versions)}",
                f"{replicas} replica{'' if replicas == 1 else 's'}",
                "append-only file " + ("on" if self._appends else "off"),
                f"maxmemory {min(limits) / 2**20:,.0f} MiB" if all(limits) else "maxmemory off",
                "maxmemory-policy noeviction",
            )
        )

    def limitations(self) -> Iterator[str]:
        """Yield the limits of this Redis, a line each."""
        if not self.primaries:
            return
        if self.silent:
            yield (
                f"no answer from {', '.join(self.silent)}: the partitions there wait, and nothing "
                "else here holds for these primaries"
            )
        if not self._appends:
            yield (
                "a restart goes back to the last snapshot, or to nothing: set appendonly yes, or "
                "workers restore the state from the archive and Kafka"
            )
        if self.address.kind == "server":
            yield (
                "the address has no failover of its own: if the server is lost, workers wait "
                "until the address answers again"
            )
        if not all(int(one.get("connected_slaves", 0)) for one in self.primaries):
            yield (
                "a primary has no replica: if its disk is lost, workers restore the state from the "
                "archive and Kafka"
            )
        else:
            yield (
                "replicas lag behind: a failover may lose the last writes, and workers count them "
                "again from Kafka"
            )
            if not all("min_slaves_good_slaves" in one for one in self.primaries):
                yield (
                    "a primary that lost its replicas goes on accepting writes that a failover "
                    "then drops: set min-replicas-to-write 1"
                )
        if not all(int(one.get("maxmemory", 0)) for one in self.primaries):
            yield "it may fill the memory of its machine: set maxmemory (docs/capacity.md)"
        if self.address.kind == "cluster":
            yield (
                "each partition is on one primary: memory and maxmemory are those of the fullest "
                "one, and commands of operators may have to be repeated while slots are moved"
            )

    @property
    def _appends(self) -> bool:
        return all(int(one.get("aof_enabled", 0)) for one in self.primaries)


async def check_redis(
    redis: Redis, timeout_s: float = 2, *, writes_state: bool = True
) -> RedisFacts:
    """Return the facts that Redis tells of itself.

    `writes_state`: the process that asks is a worker, which must know that no key is evicted.
    Raises Unavailable if it does not answer, is of another kind than the address says, is a
    replica, or would evict state. `timeout_s` is that of each server that is asked.
    """
    address = redis.address
    # Sentinels and nodes are asked in turn until one answers, and the primary after them.
    limit_s = timeout_s * (len(address.nodes) + 1)
    # Without retries, so that the answer comes within the time limit.
    client = connect(
        redis.url, timeout_s, sentinel=sentinel_login(redis), retries=0, **redis_kwargs(redis)
    )
    try:
        async with asyncio.timeout(limit_s):
            found = await primaries_info(client, within_s=timeout_s)
            facts = RedisFacts(address, found.answers, found.silent)
    # Before RedisError, of which these are subclasses.
    except NoPermissionError as error:
        if writes_state:
            raise Unavailable(
                f"Redis at {address}: a worker cannot ask whether Redis evicts state: "
                f"{redis_reason(error)}"
            ) from error
        return RedisFacts(address, ())
    except AuthenticationError as error:
        raise Unavailable(f"Redis at {address} refuses the login: {redis_reason(error)}") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"no Redis answers at {address}: start it, or set redis.url ({reason(error)})"
        ) from error
    finally:
        await client.aclose()
    if problem := next(_problems(facts), None):
        raise Unavailable(f"Redis at {address}: {problem}")
    return facts


async def primaries_info(
    client: "aioredis.Redis", *sections: str, within_s: float
) -> PrimariesInfo:
    """Return the answer to INFO of a server, or of the primaries of a cluster.

    A primary of a cluster is left out if it does not answer within `within_s`, unless all do so.
    """
    of_any_kind: object = client
    if isinstance(of_any_kind, ClusterClient):
        return await of_any_kind.primaries_info(*sections, within_s=within_s)
    return PrimariesInfo([await client.info(*sections)])


def eviction_problem(policy: object) -> str | None:
    """Return the fix for a Redis with this maxmemory-policy; None if it never evicts.

    Eviction tears the state without an error anywhere, so only `noeviction` is accepted.
    """
    if policy == "noeviction":
        return None
    return (
        f"maxmemory-policy is {policy}, which throws state away; run "
        "`CONFIG SET maxmemory-policy noeviction`"
    )


def _problems(facts: RedisFacts) -> Iterator[str]:
    for info in facts.primaries:
        mode = info.get("redis_mode")
        if mode == "sentinel":
            yield "it is a sentinel; write redis+sentinel://HOST:26379/NAME-OF-THE-PRIMARY/0"
        if mode == "cluster" and facts.address.kind != "cluster":
            yield "it is a node of a cluster; write redis+cluster://HOST:6379"
        if info.get("role", "master") != "master":
            yield (
                "it is a replica, to which nothing can be written; write the address of its "
                "primary, or redis+sentinel://"
            )
        if problem := eviction_problem(info.get("maxmemory_policy")):
            yield problem
