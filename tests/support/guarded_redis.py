"""A Redis with logins and TLS."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis

from streams.config.settings import Redis, Settings
from tests.support.certificates import Authority
from tests.support.owned_process import OwnedProcess
from tests.support.paths import ROOT
from tests.support.servers import wait_until

SHIPPED = ROOT / "deploy/redis"


USERS = ("admin", "worker", "exporter", "operator", "simulator", "intake", "health")


def password(user: str) -> str:
    return f"the password of {user}"


def write_users(directory: Path, granted: str = "") -> Path:
    """Write the shipped users with their passwords; `granted`: permissions that all get besides."""
    users = (SHIPPED / "users.acl").read_text()
    for user in USERS:
        digest = hashlib.sha256(password(user).encode()).hexdigest()
        users = users.replace(f"#SHA256-OF-THE-{user.upper()}-PASSWORD", f"#{digest}")
    file = directory / "users.acl"
    lines = (f"{one} {granted}" if one.startswith("user ") else one for one in users.splitlines())
    file.write_text("\n".join(lines) + "\n")
    return file


class GuardedRedis(OwnedProcess):
    """A server with deploy/redis: its users, over TLS or (the embedded one has none) without.

    It has its data in `directory`. Killed at the end of the block if it still runs.
    """

    def __init__(
        self, port: int, authority: Authority | None, directory: Path, command: Sequence[str]
    ) -> None:
        super().__init__("the guarded Redis", directory / "server.log")
        self.port, self.authority, self.directory = port, authority, directory
        self._command = command

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, again on the same port and data; returns when it has loaded them."""
        self.run(self._command)
        wait_until(self.answers, f"Redis answers: {self.directory / 'server.log'}")

    def settings(self, user: str, **changes: object) -> Redis:
        file = self.directory / f"{user}.password"
        file.write_text(password(user) + "\n")
        scheme, ca = ("redis", None) if self.authority is None else ("rediss", self.authority.cert)
        fields = {
            "url": f"{scheme}://127.0.0.1:{self.port}/0",
            "username": user,
            "password_file": file,
            "ssl_ca_file": ca,
        }
        return Redis(**{**fields, **changes})

    def client(self, user: str) -> redis.Redis:
        own = self.settings(user)
        tls = {"ssl_ca_certs": str(own.ssl_ca_file)} if self.authority else {}
        return redis.Redis.from_url(
            own.url, username=user, password=password(user), driver_info=None, **tls
        )

    def answers(self) -> bool:
        try:
            with self.client("admin") as admin:
                return bool(admin.ping())
        except redis.ConnectionError:
            return False

    def refused(self) -> list[str]:
        """What users asked for and may not do."""
        with self.client("admin") as admin:
            return [
                f"{one['username']}: {one['reason']} {one['object']}" for one in admin.acl_log()
            ]


def as_user(settings: Settings, redis_settings: Redis) -> Settings:
    return settings.model_copy(update={"redis": redis_settings})
