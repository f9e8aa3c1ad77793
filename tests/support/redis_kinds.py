"""A primary with a replica and three sentinels, and a cluster, on loopback with quick failovers."""

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from streams.store.contract import Answer, StoreError
from tests.support.certificates import Authority
from tests.support.counting import Counting
from tests.support.guarded_redis import password, write_users
from tests.support.owned_process import OwnedProcess
from tests.support.redis_servers import RedisProcess, program
from tests.support.servers import wait_until
from tests.support.worker_process import START_S
from tokenpulse.local.embedded import HOST, free_port

SERVICE = "mymaster"
# Long enough for a loaded machine to answer in time, short enough for a test to wait for it.
DOWN_AFTER_MS = 1_500
SLOTS = 16_384
# What docs/redis.md adds to the rights of each user.
CLUSTER_PERMISSIONS = "+cluster|slots +asking"


class SentinelProcess(OwnedProcess):
    """One sentinel of a primary; two of them must agree that it is down."""

    def __init__(self, directory: Path, primary_port: int, **settings: object) -> None:
        super().__init__("the sentinel", directory / "sentinel.log")
        directory.mkdir()
        self.port = free_port()
        # It writes what it learns into its file.
        conf = directory / "sentinel.conf"
        own: dict[str, object] = {"port": self.port, **settings}
        if "tls-cert-file" in settings:
            own |= {"port": 0, "tls-port": self.port, "tls-replication": "yes"}
        lines = [
            f"bind {HOST}",
            f"sentinel monitor {SERVICE} {HOST} {primary_port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 3000",
            *(f"{name} {value}" for name, value in own.items()),
        ]
        conf.write_text("\n".join(lines) + "\n")
        self.run([program("debian"), str(conf), "--sentinel"])

    def __enter__(self) -> Self:
        return self

    def client(self, **login: str) -> redis.Redis:
        """A new connection; the caller closes it."""
        return redis.Redis(host=HOST, port=self.port, **login)  # type: ignore[arg-type]


class _Processes:
    """Processes that end together. A context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class WatchedPrimary(_Processes):
    """A primary, its replica and three sentinels."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.sentinels: list[SentinelProcess] = []

    def __enter__(self) -> Self:
        self.servers = [
            self._stack.enter_context(RedisProcess("debian", self._directory / name))
            for name in ("one", "two")
        ]
        self.servers[1].follow(self.servers[0].port)
        for number in range(3):
            sentinel = SentinelProcess(self._directory / f"sentinel-{number}", self.servers[0].port)
            self._stack.callback(sentinel.kill)
            self.sentinels.append(sentinel)
        return self

    @property
    def url(self) -> str:
        """The address that names the sentinels."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def wait_for_agreement(self) -> None:
        """Return when the sentinels know each other and the replica, so that they can fail over."""
        with self.sentinels[0].client() as client:

            def complete() -> bool:
                try:
                    state = client.sentinel_master(SERVICE)
                except redis.ConnectionError:
                    return False
                return (state["num-other-sentinels"], state["num-slaves"]) == (2, 1)

            wait_until(complete, "the sentinels know each other")

    def primary(self) -> RedisProcess:
        """The server that the first sentinel names."""
        with self.sentinels[0].client() as client:
            _, port = client.sentinel_get_master_addr_by_name(SERVICE)
        return next(server for server in self.servers if server.port == port)


class ClusterProcess(RedisProcess):
    """A node of a cluster."""

    def __init__(self, directory: Path, **settings: object) -> None:
        self.bus_port = free_port()
        super().__init__(
            "debian",
            directory,
            **{
                "cluster-enabled": "yes",
                "cluster-config-file": directory / "nodes.conf",
                "cluster-node-timeout": DOWN_AFTER_MS,
                "cluster-port": self.bus_port,
                # A replica may take over however long ago it last heard from its primary.
                "cluster-replica-validity-factor": 0,
                **settings,
            },
        )

    @property
    def node_id(self) -> str:
        """Its name in the cluster."""
        return str(self.ask("CLUSTER", "MYID").decode())

    def ask(self, *command: object) -> Any:
        """The answer of this node to a command."""
        with self.client() as client:
            return client.execute_command(*command)

    def holds(self, key: str) -> bool:
        """Whether this node stores the key."""
        slot = self.ask("CLUSTER", "KEYSLOT", key)
        return key.encode() in self.ask("CLUSTER", "GETKEYSINSLOT", slot, 1_000)


class GuardedNode(ClusterProcess):
    """A node with deploy/redis/users.acl, which is spoken to with TLS only."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self._authority = authority
        own = authority.issue(directory.name)
        directory.mkdir()
        port = free_port()
        super().__init__(
            directory,
            **{
                "aclfile": write_users(directory, CLUSTER_PERMISSIONS),
                "port": 0,
                "tls-port": port,
                "tls-cluster": "yes",
                "tls-cert-file": own.cert,
                "tls-key-file": own.key,
                "tls-ca-cert-file": authority.cert,
                "tls-auth-clients": "no",
            },
        )
        self.port = port

    def client(self) -> redis.Redis:
        """A new connection of the user `admin`."""
        return redis.Redis(
            host=HOST,
            port=self.port,
            username="admin",
            password=password("admin"),
            ssl=True,
            ssl_ca_certs=str(self._authority.cert),
        )


class Cluster(_Processes):
    """Three primaries, and a replica of each if asked."""

    def __init__(
        self,
        directory: Path,
        replicas: bool = False,
        make: Callable[[Path], ClusterProcess] = ClusterProcess,
    ) -> None:
        super().__init__(directory)
        self._replicas, self._make = replicas, make

    def __enter__(self) -> Self:
        names = ["a", "b", "c", *(["d", "e", "f"] if self._replicas else [])]
        nodes = [self._stack.enter_context(self._make(self._directory / name)) for name in names]
        self.primaries, self.replicas = nodes[:3], nodes[3:]
        for number, node in enumerate(self.primaries):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            # Without it all would have the same epoch, and have to agree on new ones first.
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", HOST, nodes[0].port, nodes[0].bus_port)
        wait_until(
            lambda: all(self._knows(node, len(nodes)) for node in nodes), "the nodes have met"
        )
        for primary, replica in zip(self.primaries, self.replicas, strict=False):
            replica.ask("CLUSTER", "REPLICATE", primary.node_id)
        wait_until(
            lambda: all(node._link() == "up" for node in self.replicas), "the replicas are in step"
        )
        return self

    @staticmethod
    def _knows(node: ClusterProcess, count: int) -> bool:
        info = dict(
            line.split(":") for line in node.ask("CLUSTER", "INFO").decode().split() if ":" in line
        )
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == count

    @property
    def url(self) -> str:
        """The address that names all primaries."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.primaries)

    def client(self) -> redis.RedisCluster:
        """A new client; the caller closes it."""
        return redis.RedisCluster(host=HOST, port=self.primaries[0].port)

    def primary_of(self, key: str) -> ClusterProcess:
        """The primary that stores a key."""
        return next(node for node in self.primaries if node.holds(key))

    def primary_for(self, key: str) -> ClusterProcess:
        """The primary that has the slot of a key, which need not exist."""
        with self.client() as client:
            port = client.get_node_from_key(key).port
        return next(node for node in self.primaries if node.port == port)


def move_slot(key: str, source: ClusterProcess, target: ClusterProcess) -> None:
    """Move the slot of a key, with all its keys, as `redis-cli --cluster reshard` does."""
    begin_move(key, source, target)
    slot = source.ask("CLUSTER", "KEYSLOT", key)
    move_keys(key, source, target)
    for node in (target, source):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.node_id)


def begin_move(key: str, source: ClusterProcess, target: ClusterProcess) -> None:
    """Mark the slot of a key as one that is being moved."""
    slot = source.ask("CLUSTER", "KEYSLOT", key)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.node_id)


def move_keys(key: str, source: ClusterProcess, target: ClusterProcess) -> None:
    """Move the keys of a key's slot that the source still stores."""
    slot = source.ask("CLUSTER", "KEYSLOT", key)
    for name in source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1_000):
        source.ask("MIGRATE", HOST, target.port, name, 0, 5_000)


async def flush_until_confirmed(worker: Counting, records: int) -> None:
    """Write the same checkpoint again until its fate is known."""
    async with asyncio.timeout(START_S):
        while True:
            with contextlib.suppress(StoreError):
                assert await worker.count(records) in (Answer.OK, Answer.ALREADY)
                return
            await asyncio.sleep(0.05)
