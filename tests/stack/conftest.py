"""Servers that only tests of real processes need."""

from collections.abc import Iterator

import pytest

from tests.support.certificates import Authority
from tests.support.guarded_redis import SHIPPED, GuardedRedis, write_users
from tests.support.redis_servers import KINDS, program
from tokenpulse.local.embedded import free_port


@pytest.fixture(scope="module", params=KINDS)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuardedRedis]:
    kind, directory = request.param, tmp_path_factory.mktemp("redis")
    port = free_port()
    changed: dict[str, object] = {"bind": "127.0.0.1", "dir": directory}
    changed["aclfile"] = write_users(directory)
    conf = SHIPPED / "redis.conf"
    authority = None
    if kind == "debian":
        authority = Authority(directory / "ca")
        own = authority.issue("redis")
        changed |= {"tls-port": port, "tls-cert-file": own.cert, "tls-key-file": own.key}
        changed["tls-ca-cert-file"] = authority.cert
    else:  # built without TLS: it does not know these settings
        lines = [one for one in conf.read_text().splitlines() if not one.startswith("tls-")]
        conf = directory / "redis.conf"
        conf.write_text("\n".join(lines) + "\n")
        changed["port"] = port
    arguments = [part for name, value in changed.items() for part in (f"--{name}", str(value))]
    command = [program(kind), str(conf), *arguments]
    with GuardedRedis(port, authority, directory, command) as server:
        yield server
