"""A client of a cluster: each key's command goes to the primary of the key's slot.

All keys that are written or read together have one slot, as `streams/store/keys.py` says. So a
pipeline has one slot, and goes to one primary.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio as aioredis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    CrossSlotTransactionError,
    MovedError,
    RedisClusterException,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.config.redis_address import Node, RedisAddress
from streams.errors import one_line

_ATTEMPTS = 3  # of a command, if slots have moved or a primary is lost
_MOVING_S = 0.05  # until a key that is being moved is asked for again
_REDIRECTIONS = (AskError, MovedError, TryAgainError)  # nothing was done
_FAILURES = (RedisConnectionError, RedisTimeoutError, OSError, ClusterDownError)


@dataclass(frozen=True, slots=True)
class PrimariesInfo:
    """Answers to INFO, and the addresses of the primaries without one."""

    answers: Sequence[Mapping[str, Any]]
    silent: Sequence[str] = ()


def _is_failure(error: BaseException) -> bool:
    """Return whether a node cannot be reached, in contrast to a refusal of the command."""
    return isinstance(error, _FAILURES) and not isinstance(error, AuthenticationError)


def _as_redis_error(error: RedisClusterException) -> RedisConnectionError:
    """Return an error of the class that callers expect: theirs is no RedisError."""
    if isinstance(error.__cause__, AuthenticationError):
        return error.__cause__
    # redis-py takes every refusal of CLUSTER SLOTS for this.
    if "Cluster mode is not enabled" in str(error):
        return RedisConnectionError(
            "no node is one of a cluster, or the user may not run CLUSTER SLOTS; write redis:// "
            "for one server"
        )
    return RedisConnectionError(one_line(error))


class _NoCommandsParser:
    """In place of redis-py's, which asks for COMMAND: 200 KB, and a permission for each user."""

    async def initialize(self, node: object) -> None:
        """Ask no server: `ClusterClient` knows where the key of each command of ours stands."""


class ClusterClient(RedisCluster):
    """A client whose errors are those of a client of one server, and whose pipelines are, too."""

    def __init__(
        self, address: RedisAddress, pool: Mapping[str, Any], connection: Mapping[str, Any]
    ) -> None:
        """`pool`: arguments of a pool, and `connection`: of each connection."""
        own = {"username": address.username, "password": address.password}
        given = {**connection, **{name: value for name, value in own.items() if value is not None}}
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
            retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2),
            # A moved slot must not cut the connections of all others.
            reinitialize_steps=0,
            ssl=address.encrypted,
            **{name: value for name, value in given.items() if name != "retry"},
        )
        self.commands_parser = cast(Any, _NoCommandsParser())
        self._pool_options = {
            **pool,
            **given,
            "connection_class": SSLConnection if address.encrypted else Connection,
        }
        self._scripts: dict[str, str] = {}  # texts by hash
        self._pools: dict[Node, aioredis.BlockingConnectionPool] = {}

    async def initialize(self, *args: Any, **options: Any) -> "ClusterClient":
        """Read which node has which slots, if that is not known. Raises redis' ConnectionError."""
        try:
            await super().initialize(*args, **options)
        except RedisClusterException as error:
            raise _as_redis_error(error) from error
        return self

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command at the primary of its key, or at the nodes it is for. Raises RedisError."""
        try:
            if args[0] in self.command_flags or "target_nodes" in options:
                return await super().execute_command(*args, **options)
            slot = self.keyslot(args[3] if args[0] == "EVALSHA" else args[1])
            return await self._execute_at(slot, args, options)
        except RedisClusterException as error:
            raise _as_redis_error(error) from error

    async def _execute_at(self, slot: int, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        # redis-py's own way sends ASKING and the command over two connections, so that the second
        # is not allowed.
        for is_last in (*[False] * (_ATTEMPTS - 1), True):
            client = aioredis.Redis(connection_pool=await self.pool_of(slot))
            try:
                return await client.execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except (*_REDIRECTIONS, *_FAILURES) as error:
                await self.follow(error)
                if isinstance(error, AskError) and not isinstance(error, MovedError):
                    with contextlib.suppress(TryAgainError, MovedError):
                        return await self._ask(error, args, options)
                if is_last:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _ask(self, error: AskError, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Run a command at the node to which a slot is being moved."""
        client = aioredis.Redis(connection_pool=self._pool(str(error.host), int(error.port)))
        async with client.pipeline(transaction=False) as pipe:
            if args[0] == "EVALSHA":
                # The node may have no slot yet: CLUSTER SLOTS does not name it, and none of its
                # keys led a script there.
                pipe.script_load(self._scripts[args[1]])
            pipe.execute_command("ASKING")
            pipe.execute_command(*args, **options)
            return (await pipe.execute())[-1]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "SlotPipeline":  # type: ignore[override]
        """Return a pipeline for keys of one slot."""
        return SlotPipeline(self, transaction, shard_hint)

    async def load_script(self, text: str, key: str) -> str:
        """Load a script at the primary of a key; return its hash."""
        digest = str(await self._execute_at(self.keyslot(key), ("SCRIPT LOAD", text), {}))
        self._scripts[digest] = text
        return digest

    async def primaries_info(self, *sections: str, within_s: float) -> PrimariesInfo:
        """Return the answer to INFO of each primary that gives one within `within_s`.

        Raises RedisError if none does, or if one refuses.
        """
        await self.initialize()
        nodes = [(str(node.host), int(node.port)) for node in self.get_primaries()]
        answers = await asyncio.gather(
            *(self._info(node, sections, within_s) for node in nodes), return_exceptions=True
        )
        known = [answer for answer in answers if isinstance(answer, dict)]
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        # A refusal is of all nodes: they have the same users.
        lasting = (error for error in errors if not _is_failure(error))
        if error := next(lasting, None if known else next(iter(errors), None)):
            raise error
        silent = [
            f"{host}:{port}"
            for (host, port), answer in zip(nodes, answers, strict=True)
            if isinstance(answer, BaseException)
        ]
        # The next call reads again which nodes there are: these may have been replaced.
        self._initialize = self._initialize or bool(silent)
        return PrimariesInfo(known, silent)

    async def _info(self, node: Node, sections: Sequence[str], within_s: float) -> dict[str, Any]:
        # redis-py's own way forgets all it knows about the cluster if one node does not answer.
        client = aioredis.Redis(connection_pool=self._pool(*node))
        async with asyncio.timeout(within_s):
            return await client.info(*sections)

    async def follow(self, error: BaseException) -> None:
        """Learn from an error which node has which slots."""
        if isinstance(error, MovedError):
            await self.nodes_manager.move_slot(error)
        elif isinstance(error, _REDIRECTIONS):
            await asyncio.sleep(_MOVING_S)
        else:
            # Without an answer the error that led here is raised, and the next one asks again.
            with contextlib.suppress(RedisClusterException):
                await self.nodes_manager.initialize()
                await self._disconnect_former()

    async def _disconnect_former(self) -> None:
        """Close the idle connections to nodes that have no slot any more.

        Services with one address for each node give new ones at each replacement.
        """
        nodes = self.nodes_manager.nodes_cache.values()
        known = {(str(node.host), int(node.port)) for node in nodes}
        for node in self._pools.keys() - known:
            # A node to which the first slot is being moved has none either: keep those in use.
            await self._pools[node].disconnect(inuse_connections=False)

    async def pool_of(self, slot: int) -> aioredis.BlockingConnectionPool:
        """Return the connections to the primary of a slot."""
        await self.initialize()
        node = self._node(slot)
        return self._pool(str(node.host), int(node.port))

    def _pool(self, host: str, port: int) -> aioredis.BlockingConnectionPool:
        if (host, port) not in self._pools:
            self._pools[host, port] = aioredis.BlockingConnectionPool(
                host=host, port=port, **self._pool_options
            )
        return self._pools[host, port]

    def _node(self, slot: int) -> ClusterNode:
        try:
            return self.nodes_manager.get_node_from_slot(slot)
        except RedisClusterException as error:
            raise _as_redis_error(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        for pool in self._pools.values():
            await pool.aclose()


class SlotPipeline(Pipeline):
    """Commands of one slot that are sent together, with MULTI and EXEC if it is a transaction.

    redis-py's own pipeline for clusters runs each queued command in a thread and event loop of its
    own, which a connection cannot be shared with.
    """

    def __init__(
        self, cluster: ClusterClient, transaction: bool, shard_hint: str | None = None
    ) -> None:
        # The pool is that of the node of the first key.
        super().__init__(None, cluster.response_callbacks, transaction, shard_hint)  # type: ignore[arg-type]
        self._cluster = cluster
        self._slot: int | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Queue a command, or run it if a key is watched."""
        # In every command of ours that has a key, it follows the name.
        if len(args) > 1:
            slot = self._cluster.keyslot(args[1])
            if self._slot not in (None, slot):
                raise CrossSlotTransactionError(f"{args[1]}: another slot than the keys before")
            self._slot = slot
        return super().execute_command(*args, **options)

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Run WATCH, or a command after it."""
        await self._locate()
        try:
            return await super().immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except (*_REDIRECTIONS, *_FAILURES) as error:
            await self._cluster.follow(error)
            # A slot that has moved is watched at its new primary; nothing was read before.
            if args[0] != "WATCH" or not isinstance(error, MovedError):
                raise
        await self.reset()  # type: ignore[no-untyped-call]
        await self._locate()
        return await super().immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands, and return their answers. A transaction is done whole or not at all.

        Raises AskError or TryAgainError for a transaction while its slot is being moved.
        """
        commands = self.command_stack
        if not commands and not self.watching:
            return []
        is_watched = self.watching or self.explicit_transaction
        await self._locate()
        try:
            return await super().execute(raise_on_error)
        except _REDIRECTIONS as error:
            await self._cluster.follow(error)
            if not self.is_transaction and not is_watched:
                # One by one, as a slot that is being moved has its keys in two places.
                return [
                    await self._cluster.execute_command(*args, **options)
                    for args, options in commands
                ]
            if is_watched or not isinstance(error, MovedError):
                raise
        except _FAILURES as error:
            await self._cluster.follow(error)
            raise
        self.command_stack = commands
        await self._locate()
        return await super().execute(raise_on_error)

    async def _locate(self) -> None:
        if self.connection is None:
            if self._slot is None:
                raise CrossSlotTransactionError("a pipeline without a key has no slot")
            self.connection_pool = await self._cluster.pool_of(self._slot)
