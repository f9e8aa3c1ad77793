"""What the check says of addresses at which nothing answers, and why a call to Redis failed."""

import asyncio
import socket
import time

import pytest
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from streams.config.redis_address import parse_redis_address
from streams.config.settings import Redis
from streams.errors import Unavailable
from streams.store.servers.check import RedisFacts, check_redis
from streams.store.servers.reasons import redis_reason

FORMS = (
    "redis://me:hunter2@{}/0",
    "redis+sentinel://me:hunter2@{}/mymaster/0",
    "redis+cluster://me:hunter2@{}",
)


@pytest.mark.parametrize("form", FORMS)
def test_an_address_at_which_nothing_listens_is_one_line_without_the_login(
    form: str, unused_port: int
) -> None:
    address = f"127.0.0.1:{unused_port}"
    with pytest.raises(Unavailable, match=f"^no Redis answers at {address}: start it") as caught:
        asyncio.run(check_redis(Redis(url=form.format(address))))
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_a_server_that_accepts_and_never_answers_does_not_hold_the_check(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        began_s = time.monotonic()
        with pytest.raises(Unavailable, match=f"^no Redis answers at {address}: start it"):
            asyncio.run(check_redis(Redis(url=form.format(address)), timeout_s=0.2))
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(
    ("known", "silent", "name"),
    [(1, 0, "1 primary"), (3, 0, "3 primaries"), (2, 1, "3 primaries"), (1, 1, "2 primaries")],
)
def test_a_cluster_is_described_with_all_its_primaries(known: int, silent: int, name: str) -> None:
    address = parse_redis_address("redis+cluster://127.0.0.1:7000")
    facts = RedisFacts(address, [{}] * known, ["127.0.0.1:7001"] * silent)
    assert facts.describe().startswith(f"a cluster of {name}, without TLS; version")
    lines = "; ".join(facts.limitations())
    assert ("no answer from 127.0.0.1:7001" in lines) == (silent > 0)


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (NoPermissionError("this user has no permissions"), "what docs/security.md lists"),
        (MovedError("1 127.0.0.1:7000"), "write redis+cluster:// there"),
        (ClusterDownError("The cluster is down"), "see to its nodes"),
        (ReadOnlyError("You can't write against a read only replica."), "to the primary"),
        (OutOfMemoryError("command not allowed"), "raise maxmemory"),
    ],
)
def test_a_failure_names_its_fix_in_one_line(error: ResponseError, fix: str) -> None:
    found = redis_reason(error)
    assert str(error) in found
    assert fix in found
    assert "\n" not in found


def test_other_failures_keep_their_own_text() -> None:
    assert redis_reason(ResponseError("value\n is  not an integer")) == "value is not an integer"
    assert redis_reason(TimeoutError()) == "TimeoutError"
