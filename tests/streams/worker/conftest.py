"""What the tests of one worker share: a log and a Redis, both in memory."""

import pytest

from tests.support.memory_store import MemoryRedis
from tests.support.worker_bench import LogInMemory


@pytest.fixture
def log() -> LogInMemory:
    return LogInMemory()


@pytest.fixture
def redis() -> MemoryRedis:
    return MemoryRedis()
