"""The client of any kind of Redis, with short time limits."""

from collections.abc import Mapping
from typing import Any, cast

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ReadOnlyError

from streams.config.redis_address import parse_redis_address
from streams.config.settings import Redis
from streams.errors import ConfigError
from streams.security.clients import redis_kwargs, sentinel_login
from streams.store.servers.cluster import ClusterClient
from streams.store.servers.sentinel import sentinel_client

LOAD_DEADLINE_S = 20.0  # of a load, which may read many slices in several commands


def connect(
    url: str,
    timeout_s: float,
    *,
    sentinel: Mapping[str, str] | None = None,
    retries: int = 2,
    **secured: Any,
) -> "aioredis.Redis":
    """Return a client whose calls end soon. Raises ConfigError if the URL cannot be used.

    redis-py's defaults can hold a call for a minute, longer than a worker may be silent. `secured`:
    the result of `security.redis_kwargs`, and `sentinel`: of `security.sentinel_login`.
    """
    connection: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries),
        "health_check_interval": 15,
        **secured,
    }
    # A caller that finds all connections taken waits for one: partitions are loaded all at once.
    pool: dict[str, Any] = {"timeout": LOAD_DEADLINE_S, "max_connections": 16}
    address = parse_redis_address(url)
    if address.kind == "sentinel":
        return sentinel_client(address, pool, connection, sentinel or {})
    if address.kind == "cluster":
        # It has the commands that we send, but no class in common with the client of a server.
        return cast("aioredis.Redis", ClusterClient(address, pool, connection))
    return _server_client(url, pool, connection)


def _server_client(
    url: str, pool: Mapping[str, Any], connection: Mapping[str, Any]
) -> "aioredis.Redis":
    try:
        connections: aioredis.BlockingConnectionPool = aioredis.BlockingConnectionPool.from_url(
            url,
            # After a failover the name leads to the new primary, but an open connection may still
            # lead to the former one, which is a replica now: connect again.
            retry_on_error=[ReadOnlyError],
            **pool,
            **connection,
        )
        # The options of the URL are arguments: a wrong one would fail only at the first call.
        connections.connection_class(**connections.connection_kwargs)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            "redis.url: its options, after the `?`, cannot be used; docs/configuration.md shows "
            "what an address is"
        ) from error
    return aioredis.Redis.from_pool(connections)


def connected(redis: Redis) -> "aioredis.Redis":
    """Return a client of the Redis in the settings, with its login.

    Raises ConfigError if a password or certificate file cannot be used.
    """
    return connect(
        redis.url, redis.timeout_s, sentinel=sentinel_login(redis), **redis_kwargs(redis)
    )
