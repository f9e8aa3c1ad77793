"""A client of the primary that sentinels name. After a failover it connects to the new one."""

from collections.abc import Mapping
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError

from streams.config.redis_address import RedisAddress


class _Sentinels(Sentinel):
    """The sentinels of one primary."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary. Raises MasterNotFoundError, in one line."""
        try:
            host, port = await super().discover_master(service_name)
        except MasterNotFoundError as error:
            # Its text has the errors of all sentinels, as their representations.
            if AuthenticationError.__name__ in str(error):
                raise MasterNotFoundError(
                    "the sentinels refuse the login; set redis.sentinel_password_file"
                ) from error
            raise MasterNotFoundError(
                f"no sentinel answers with a primary `{service_name}` that is up"
            ) from error
        return str(host), int(port)


class _PrimaryPool(SentinelConnectionPool, aioredis.BlockingConnectionPool):
    """Connections to the primary; a caller that finds all of them taken waits for one."""

    async def aclose(self) -> None:
        """Close the connections to the primary, and those to the sentinels."""
        try:
            await super().aclose()
        finally:
            await self.sentinel_manager.aclose()


def sentinel_client(
    address: RedisAddress,
    pool: Mapping[str, Any],
    connection: Mapping[str, Any],
    sentinel_login: Mapping[str, str],
) -> "aioredis.Redis":
    """Return a client of the primary.

    `pool`: arguments of the pool, and `connection`: of each connection to the primary.
    """
    own = {"username": address.username, "password": address.password}
    given = {name: value for name, value in own.items() if value is not None}
    # The login of the primary is not sent to the sentinels, but TLS and time limits are the same.
    shared = {
        name: value for name, value in connection.items() if name not in ("username", "password")
    }
    sentinels = _Sentinels(
        address.nodes,
        # Without retries: the next sentinel is asked instead.
        sentinel_kwargs={
            **shared,
            **sentinel_login,
            "ssl": address.encrypted,
            "retry": Retry(NoBackoff(), 0),  # type: ignore[no-untyped-call]
        },
    )
    return aioredis.Redis.from_pool(
        _PrimaryPool(  # type: ignore[no-untyped-call]
            address.service,
            sentinels,
            **pool,
            **connection,
            **given,
            ssl=address.encrypted,
            db=address.database,
        )
    )
