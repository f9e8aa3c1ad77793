"""Whether Redis answers, and is set up so that the state is safe in it."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
import redis.exceptions

from streams.errors import Unavailable, one_line, reason
from streams.store.redis import eviction_problem


async def check_redis(url: str, timeout_s: float = 2, **secured: Any) -> int:
    """Return the process id of the server.

    Raises Unavailable if it does not answer or would evict state. `secured`: from `redis_kwargs`.
    """
    where = redis_address(url)
    try:
        client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # Without retries, so that the answer comes within the time limit.
            retry=None,
            **secured,
        )
    except ValueError as error:
        raise Unavailable(f"redis.url: {one_line(error)}; write redis://HOST:PORT/0") from error
    try:
        async with asyncio.timeout(timeout_s):
            info = await client.info()
    # Before RedisError, of which it is a subclass.
    except redis.exceptions.AuthenticationError as error:
        raise Unavailable(
            f"Redis at {where} refuses the login: {one_line(error)}; set "
            "redis.username and redis.password_file, or put them into redis.url"
        ) from error
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        raise Unavailable(
            f"no Redis answers at {where}: start it, or set redis.url ({reason(error)})"
        ) from error
    finally:
        await client.aclose()
    if problem := eviction_problem(info.get("maxmemory_policy")):
        raise Unavailable(f"Redis at {where}: {problem}")
    return int(info["process_id"])


def redis_address(url: str) -> str:
    """Host and port, or socket path, of a Redis URL, without user and password."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
