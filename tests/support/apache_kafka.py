"""Apache Kafka for the tests: KRaft nodes on free loopback ports, from what provision.sh fetched.

Of one or two nodes the first is the controller, too: it has to stay when a test kills another. Of
three and more the first three are, so that any one of them may be away. All of a cluster
lives in one directory, also its logs; nothing of it runs after `stop`, nor after we are killed.
"""

import base64
import itertools
import os
import re
import secrets
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from streams.config.settings import Kafka
from tests.support.certificates import Authority
from tests.support.paths import TESTS
from tests.support.programs import demand_stack_mark
from tests.support.servers import Broker, wait_until
from tokenpulse.local.embedded import free_port

CONTROLLERS = 3  # the fewest that lose one of them and go on
CACHE_VARIABLE = "TOKENPULSE_TEST_CACHE"  # as in provision.sh
HERE = TESTS / "kafka"
START_S = 300  # on a loaded machine; 3 s on an idle one
PASSWORD_BYTES = 16
ADMIN = "admin"
TO_SUPERVISE = ("setpriv", "--pdeathsig", "KILL")

# Names of topics and groups, over all clusters: the states of all of them are in one Redis.
_numbers = (f"kafka-{number}" for number in itertools.count())

# Quick to react, and as few threads and partitions of its own as a test can do with.
PROPERTIES = {
    "auto.create.topics.enable": "false",
    "broker.heartbeat.interval.ms": "200",
    "broker.session.timeout.ms": "1500",
    "controlled.shutdown.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.dedupe.buffer.size": "2000000",
    "log.initial.task.delay.ms": "100",
    "log.retention.check.interval.ms": "500",
    "log.segment.delete.delay.ms": "100",
    "num.io.threads": "4",
    "num.network.threads": "2",
    "offsets.topic.num.partitions": "4",
    "replica.lag.time.max.ms": "2000",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
}


def jars() -> Path:
    """Where provision.sh put Apache Kafka; skips the test where it did not."""
    demand_stack_mark("Apache Kafka")
    lock = (HERE / "jars.sha256").read_text()
    version = re.search(r" kafka_2\.13-(.+)\.jar$", lock, re.MULTILINE)
    assert version is not None
    named = os.environ.get(CACHE_VARIABLE)
    cache = Path(named) if named else Path.home() / ".cache" / "tokenpulse-tests"
    found = cache / f"kafka-{version[1]}"
    if not found.is_dir() or shutil.which("java") is None:
        pytest.skip("Apache Kafka is not provisioned: run bash tests/provision.sh")
    return found


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """What the header of a record batch says."""

    codec: int
    producer_id: int  # -1: the producer does not number its batches
    records: int


@dataclass(frozen=True)
class KafkaBroker(Broker):
    """As the helpers that know the embedded broker want it; `login`: of who makes topics."""

    login: Mapping[str, Any] = field(default_factory=dict)

    def new_kafka(self, partitions: int = 1, **settings: Any) -> Kafka:
        """Settings with a fresh topic, its dead-letter topic and a group of its own."""
        return super().new_kafka(partitions, **{**self.login, **settings})


@dataclass(slots=True)
class Node:
    """One broker: its number from 1, its directory, and its process while it runs."""

    number: int
    directory: Path
    port: int
    controller_port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def properties(self) -> Path:
        """Its configuration."""
        return self.directory / "server.properties"

    @property
    def data(self) -> Path:
        """Its logs, one directory a partition."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "broker.log"

    def told(self) -> str:
        """All it has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class ApacheKafka:
    """A cluster; use it as a context manager.

    `properties`: of every node, before our own defaults. `users`: name -> password; with them
    clients need SASL_SSL with SCRAM-SHA-512, and may do what kafka_admin.py grants them. The
    user `ADMIN` may do everything.
    """

    def __init__(
        self,
        directory: Path,
        nodes: int = 1,
        properties: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        java_options: Sequence[str] = (),
    ) -> None:
        self._jars = jars()
        self._java_options = java_options
        self._users = {} if users is None else {ADMIN: secrets.token_hex(PASSWORD_BYTES), **users}
        self._properties = {**PROPERTIES, **(properties or {})}
        self._directory = directory
        self.nodes = [
            Node(number, directory / f"node-{number}", free_port(), free_port())
            for number in range(1, nodes + 1)
        ]

    def __enter__(self) -> Self:
        try:
            self._format()
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is not None:
            for node in self.nodes:
                error.add_note(f"the log of broker {node.number} ends:\n{node.told()[-3_000:]}")

    # -- for the clients -------------------------------------------------------------------------

    @property
    def bootstrap(self) -> str:
        """All nodes, as clients want it."""
        return ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @cached_property
    def broker(self) -> Broker:
        """For the helpers that know the embedded broker; the administrator makes the topics."""
        return KafkaBroker(self.bootstrap, _numbers, self.login())

    def login(self, user: str = ADMIN) -> dict[str, Any]:
        """The settings with which a user logs in; none where the cluster has no users."""
        if not self._users:
            return {}
        return {
            "security_protocol": "SASL_SSL",
            "username": user,
            "password": self._users[user],
            "ssl_ca_file": self._authority.cert,
        }

    def record_batches(self, topic: str, partition: int = 0) -> list["RecordBatch"]:
        """What the first node holds of a log, batch by batch."""
        directory = self.nodes[0].data / f"{topic}-{partition}"
        segments = sorted(directory.glob("*.log"))
        return [one for segment in segments for one in _batches(segment.read_bytes())]

    def compacted_until(self, topic: str, partition: int = 0) -> int:
        """The offset before which the first node has compacted a log; 0 where it has not yet."""
        checkpoint = self.nodes[0].data / "cleaner-offset-checkpoint"
        lines = checkpoint.read_text().splitlines() if checkpoint.exists() else []
        found = [line.split()[2] for line in lines if line.startswith(f"{topic} {partition} ")]
        return int(found[0]) if found else 0

    # -- processes -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every node that does not run, at its port and on its data; returns when all are
        ready."""
        started = [node for node in self.nodes if node.process is None]
        ready = {node.number: _starts(node) + 1 for node in started}
        for node in started:
            with node.log.open("ab") as output:
                node.process = subprocess.Popen(
                    self._java("kafka.Kafka", node.properties),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=node.directory,
                )
        for node in started:
            wait_until(
                partial(_is_ready, node, ready[node.number]),
                f"broker {node.number} starts, see {node.log}",
                START_S,
            )

    def stop(self) -> None:
        """End all nodes; one that takes its time is killed."""
        running = [(node, node.process) for node in self.nodes if node.process is not None]
        for _, process in running:
            process.terminate()
        for node, process in running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            node.process = None

    def kill(self, number: int = 1) -> None:
        """SIGKILL one node."""
        node = self.nodes[number - 1]
        assert node.process is not None
        node.process.send_signal(signal.SIGKILL)
        node.process.wait()
        node.process = None

    def restart(self, number: int) -> None:
        """Stop one node in order, and start it again."""
        node = self.nodes[number - 1]
        assert node.process is not None
        node.process.terminate()
        node.process.wait()
        node.process = None
        self.start()

    def _java(self, main: str, *arguments: object) -> list[str]:
        # The compiler for short lives, and a heap that leaves room for the workers.
        options = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *self._java_options)
        logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
        supervised = TO_SUPERVISE if shutil.which(TO_SUPERVISE[0]) else ()
        command = (*supervised, "java", *options, logging, "-cp", f"{self._jars}/*", main)
        return [*command, *map(str, arguments)]

    # -- configuration ---------------------------------------------------------------------------

    def _format(self) -> None:
        cluster = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        scram = [
            argument
            for user, password in self._users.items()
            for argument in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")
        ]
        tools = []
        for node in self.nodes:
            node.directory.mkdir(parents=True)
            lines = [f"{name}={value}\n" for name, value in self._configuration(node).items()]
            node.properties.write_text("".join(lines))
            asked = ("format", "-t", cluster.replace("-", "_"), "-c", node.properties, *scram)
            command = self._java("kafka.tools.StorageTool", *asked)
            pipe, into_it = subprocess.PIPE, subprocess.STDOUT
            tools.append(subprocess.Popen(command, stdout=pipe, stderr=into_it, text=True))
        for tool in tools:
            output, _ = tool.communicate()
            assert tool.returncode == 0, output

    def _configuration(self, node: Node) -> dict[str, str]:
        protocol = "SASL_SSL" if self._users else "PLAINTEXT"
        replicas = str(min(3, len(self.nodes)))
        controllers = self.nodes[: CONTROLLERS if len(self.nodes) >= CONTROLLERS else 1]
        is_controller = node in controllers
        return {
            "process.roles": "broker,controller" if is_controller else "broker",
            "node.id": str(node.number),
            "controller.quorum.voters": ",".join(
                f"{one.number}@127.0.0.1:{one.controller_port}" for one in controllers
            ),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"CLIENTS://127.0.0.1:{node.port}"
            + (f",CONTROLLER://127.0.0.1:{node.controller_port}" if is_controller else ""),
            "advertised.listeners": f"CLIENTS://127.0.0.1:{node.port}",
            "inter.broker.listener.name": "CLIENTS",
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,CLIENTS:{protocol}",
            "log.dirs": str(node.data),
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            **(self._security() if self._users else {}),
            **self._properties,
        }

    @cached_property
    def _authority(self) -> Authority:
        return Authority(self._directory / "tls")

    def _security(self) -> dict[str, str]:
        issued = self._authority.issue("broker")
        both = issued.key.with_suffix(".pem")
        both.write_text(issued.key.read_text() + issued.cert.read_text())
        module = "org.apache.kafka.common.security.scram.ScramLoginModule"
        login = f'{module} required username="{ADMIN}" password="{self._users[ADMIN]}";'
        return {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": login,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self._authority.cert),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The controller's own port has no login; only the node itself knows it.
            "super.users": f"User:{ADMIN};User:ANONYMOUS",
        }


def _starts(node: Node) -> int:
    return node.told().count("Kafka Server started")


def _is_ready(node: Node, starts: int) -> bool:
    return _lives(node) and _starts(node) == starts


def _lives(node: Node) -> bool:
    assert node.process is not None
    code = node.process.poll()
    assert code is None, f"broker {node.number} ended with {code}:\n{node.told()[-3_000:]}"
    return True


def _batches(segment: bytes) -> Iterator[RecordBatch]:
    """Layout: Kafka's protocol guide, record batch, version 2."""
    at = 0
    while at < len(segment):
        (length,) = struct.unpack_from(">i", segment, at + 8)
        (attributes,) = struct.unpack_from(">h", segment, at + 21)
        (producer_id,) = struct.unpack_from(">q", segment, at + 43)
        (records,) = struct.unpack_from(">i", segment, at + 57)
        yield RecordBatch(attributes & 0b111, producer_id, records)
        at += 12 + length
