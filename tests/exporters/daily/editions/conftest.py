"""Fixtures of the tests of weeks and months."""

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from tests.support.daily_state import in_world as world_runner
from tests.support.servers import RedisServer


@pytest.fixture
def in_world(redis_server: RedisServer, redis_client: Redis) -> Callable[..., Any]:
    """Return what runs a story over an empty Redis."""
    return world_runner(redis_server)
