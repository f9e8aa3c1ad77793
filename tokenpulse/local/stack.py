"""The embedded stack: broker, Redis, workers, intake, exporter and traffic under one process.

Broker and Redis come from wheels (or Redis from PATH), listen on 127.0.0.1 only and keep all data
in memory. If either dies, the stack ends: the state in Redis and the log of the broker belong
together, and neither can be restored.

Why one broker suffices for a working day. The broker has no retention, and every fetch walks all
batches of the partition. At 50 events/s and a linger of 1 s, in 8 h (measured on 2 cores, lz4):

    partitions  batches each  memory  processor of the broker  arrival to reader
             1        28,800  299 MB                     3 %              40 ms
             4        28,800  515 MB                    11 %             150 ms

So there are as many partitions as workers (1), not more, and the simulator lingers for a second.
"""

import asyncio
import secrets
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, SecretStr

from streams.config.settings import Exporter, Intake, Settings
from streams.config.settings import Redis as RedisSettings
from streams.errors import Unavailable
from streams.kafka.topics import EMBEDDED_CLUSTER, check_broker, create_source_topics, create_topics
from streams.store.servers.check import check_redis
from tokenpulse.local.embedded import (
    HOST,
    StackDirectory,
    StackError,
    broker_binary,
    environment,
    foreign_environment,
    free_port,
    is_free,
    listens,
    one_start_at_a_time,
    reachable,
    redis_binary,
)
from tokenpulse.local.simulated_company import simulated_company
from tokenpulse.local.supervisor import Child, ChildError, Supervisor

Result = TypeVar("Result")

SERVER_START_S = 15
SERVER_CHILD_START_S = 30
# A free port may be taken between its choice and its use.
PORT_ATTEMPTS = 3
# A consumer group of the embedded broker is stable after half the session timeout (measured).
SESSION_TIMEOUT_S, HEARTBEAT_INTERVAL_S = 2.0, 0.333

# Settings of a login, which the embedded servers do not need.
_LOGIN = ["username", "password", "password_file", "ssl_ca_file", "ssl_cert_file", "ssl_key_file"]
_SENTINEL_LOGIN = ["sentinel_username", "sentinel_password", "sentinel_password_file"]


class LocalStack:
    """The embedded stack, as a context manager; `stop` ends all processes and removes all files.

    `workers`: number of worker processes. `exporter`, `simulate`, `intake`: run these too. `start`
    raises StackError. Ports of `settings.local` that are 0 become free ones; exporter and intake
    take their default ports if these are free, or else free ones, unless they are configured.
    `on_failure` is called if the stack ends by itself.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int,
        exporter: bool,
        simulate: bool,
        intake: bool = False,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings  # after start: with the addresses and secrets of this stack
        self._asked = settings
        self._workers = workers
        self._with_exporter = exporter
        self._with_simulate = simulate
        self._with_intake = intake
        self._say = say
        self._on_failure = on_failure
        self._cluster_id = f"{EMBEDDED_CLUSTER}-{secrets.token_hex(8)}"
        self._ports: dict[str, int] = {}
        # The exporter's default port, if another program has it.
        self.occupied_port: int | None = None
        self._directory: StackDirectory | None = None
        self._supervisor: Supervisor | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def bootstrap(self) -> str:
        """The broker's `host:port`."""
        return self.settings.kafka.bootstrap

    @property
    def redis_url(self) -> str:
        """The Redis URL."""
        return self.settings.redis.url

    @property
    def exporter_url(self) -> str:
        """The exporter's base URL, without a trailing slash."""
        return f"http://{reachable(self.settings.exporter.host)}:{self.settings.exporter.port}"

    @property
    def intake_url(self) -> str:
        """The base URL of the intake, without a trailing slash."""
        return f"http://{reachable(self.settings.intake.host)}:{self.settings.intake.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment for `tokenpulse` commands on this stack; it contains its secrets."""
        return environment(self.settings)

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the running workers."""
        pids = [self.pid(f"worker-{number}") for number in range(1, self._workers + 1)]
        return [pid for pid in pids if pid is not None]

    @property
    def log_dir(self) -> Path:
        """Directory of the children's logs; removed by `stop`."""
        if self._directory is None:
            raise StackError("the stack is not running")
        return self._directory.path

    def pid(self, name: str) -> int | None:
        """Return the process id of a child, such as redis or worker-1, if it runs."""
        return self._supervisor.pid(name) if self._supervisor is not None else None

    def start(self) -> None:
        """Start all children and wait until the servers answer. Raises StackError."""
        # First, so that a missing program leaves no directory behind.
        broker, redis = broker_binary(), redis_binary()
        # Two stacks that start together could choose the same free port.
        with one_start_at_a_time():
            self._directory = StackDirectory()
            self._supervisor = Supervisor(
                self._directory.path,
                lambda supervisor: self._boot(supervisor, broker, redis),
                self._say,
                self._on_failure,
            )
            try:
                self._supervisor.start()
            except BaseException as error:
                # No data is worth a grace period: no event was counted yet.
                self._supervisor.interrupt(hard=True)
                self._supervisor.stop()
                self._directory.remove()
                self._directory = None
                if isinstance(error, Unavailable):
                    raise StackError(str(error)) from error
                raise

    def stop(self) -> None:
        """End all children and remove their files. May be called at any time."""
        if self._supervisor is not None:
            self._supervisor.stop()
        if self._directory is not None:
            self._directory.remove()
            self._directory = None

    def interrupt(self, hard: bool = False) -> None:
        """Begin to stop, for signal handlers; `hard`: without a grace period."""
        if self._supervisor is not None:
            self._supervisor.interrupt(hard)

    def check(self) -> None:
        """Raise StackError if the stack has ended by itself, with the reason."""
        if self._supervisor is not None and self._supervisor.failure is not None:
            raise StackError(self._supervisor.failure)

    def _boot(self, supervisor: Supervisor, broker: str, redis: str) -> None:
        self._serve(
            supervisor,
            "kafka_port",
            lambda port: self._broker(broker, port),
            lambda port, _: self._is_our_broker(port),
        )
        self._serve(
            supervisor,
            "redis_port",
            lambda port: self._redis(redis, port),
            self._is_our_redis,
        )
        if self._with_exporter:
            port = self._http_port("exporter")
            self._ports["exporter"] = port
            # Another program has the default port.
            if port != (asked := self._asked.exporter.port):
                self.occupied_port = asked or None
        if self._with_intake:
            self._ports["intake"] = self._http_port("intake")
        self.settings = self._complete_settings()
        # Before any client connects: this broker creates any topic that a client asks for.
        asyncio.run(create_topics(self.settings))
        if self._with_intake and self.settings.intake.sources:
            # Its broker begins empty, and no one else can create topics there before the intake.
            asyncio.run(create_source_topics(self.settings))
        for number in range(1, self._workers + 1):
            supervisor.launch(self._command(f"worker-{number}", "worker"))
        servers = [
            (self._command(name, name), getattr(self.settings, name))
            for name in ("intake", "exporter")
            if name in self._ports
        ]
        for child, _ in servers:
            supervisor.launch(child)
        for child, section in servers:
            ready = partial(listens, reachable(section.host), section.port)
            supervisor.wait_until(child, ready, SERVER_CHILD_START_S)
        # Last, as its events would otherwise wait for a worker.
        if self._with_simulate:
            past = f"{self.settings.local.past_s:.0f}s"
            supervisor.launch(self._command("simulate", "simulate", "--past", past))

    def _serve(
        self,
        supervisor: Supervisor,
        setting: str,
        child_at: Callable[[int], Child],
        is_ours: Callable[[int, int | None], bool],
    ) -> None:
        """Start broker or Redis on its port or a free one, and check that this process answers."""
        fixed: int = getattr(self._asked.local, setting)
        for _ in range(PORT_ATTEMPTS):
            port = fixed or free_port()
            if is_free(HOST, port):
                child = child_at(port)
                supervisor.launch(child)
                ready = partial(is_ours, port, supervisor.pid(child.name))
                try:
                    supervisor.wait_until(child, ready, SERVER_START_S)
                # If the port is occupied, another process took it first: try the next one.
                except ChildError:
                    if supervisor.alive(child.name) or is_free(HOST, port):
                        raise
                else:
                    self._ports[setting] = port
                    return
            # Another process took the port, perhaps a moment ago.
            if fixed:
                raise StackError(
                    f"local.{setting}: port {port} on {HOST} is in use: end what listens there, "
                    "or set another, 0 for any free one"
                )
        raise StackError(f"local.{setting}: {PORT_ATTEMPTS} free ports were taken meanwhile")

    def _broker(self, program: str, port: int) -> Child:
        url = f"tcp://{HOST}:{port}"
        return Child(
            "broker",
            program,
            (
                "broker",
                f"--cluster-id={self._cluster_id}",
                f"--listener-url={url}",
                f"--advertised-listener-url={url}",
                "--storage-engine=memory://tansu/",
            ),
            environment=foreign_environment(),
            vital=True,
        )

    def _is_our_broker(self, port: int) -> bool:
        # If the port is taken, ours exits with status 0 and another broker answers.
        return _answers(check_broker(f"{HOST}:{port}")) == self._cluster_id

    def _is_our_redis(self, port: int, process_id: int | None) -> bool:
        facts = _answers(check_redis(RedisSettings(url=_redis_url(port))))
        return facts is not None and facts.process_id == process_id

    def _redis(self, program: str, port: int) -> Child:
        options = {
            "port": port,
            "bind": HOST,
            "dir": self.log_dir,
            # Without files: the state ends with the stack.
            "save": "",
            "appendonly": "no",
            # A worker accepts no other policy.
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
        return Child("redis", program, arguments, environment=foreign_environment(), vital=True)

    def _command(self, name: str, *command: str) -> Child:
        return Child(
            name,
            sys.executable,
            ("-m", "tokenpulse.cli.main", *command),
            # Unbuffered, so that the log has the last lines of a process that was killed.
            environment={**self.environment, "PYTHONUNBUFFERED": "1"},
        )

    def _http_port(self, name: str) -> int:
        """Return the port of exporter or intake: the one of its settings, or a free one."""
        section: Exporter | Intake = getattr(self._asked, name)
        if section.port and is_free(section.host, section.port):
            return section.port
        if section.port and "port" in section.model_fields_set:
            raise StackError(
                f"{name}.port: port {section.port} on {section.host} is in use: end what "
                "listens there, or set another, 0 for any free one"
            )
        return free_port(section.host)

    def _complete_settings(self) -> Settings:
        """Return the given settings with the addresses and the key of this stack."""
        asked = self._asked
        kafka: dict[str, Any] = {
            "partitions": max(1, self._workers),
            "session_timeout_s": SESSION_TIMEOUT_S,
            "heartbeat_interval_s": HEARTBEAT_INTERVAL_S,
            "replication": 1,
        }
        kafka = {key: kafka[key] for key in kafka.keys() - asked.kafka.model_fields_set}
        # The archive would be in the embedded broker, and be lost with it.
        worker: dict[str, Any] = {"archive_interval_s": 0}
        if asked.worker.customer_key is None and asked.worker.customer_key_file is None:
            worker["customer_key"] = SecretStr(secrets.token_hex(32))
        changes: dict[str, BaseModel] = {
            "kafka": asked.kafka.model_copy(
                update={
                    **kafka,
                    "bootstrap": f"{HOST}:{self._ports['kafka_port']}",
                    **dict.fromkeys(_LOGIN),
                    "security_protocol": "PLAINTEXT",
                }
            ),
            "redis": asked.redis.model_copy(
                update={
                    "url": _redis_url(self._ports["redis_port"]),
                    **dict.fromkeys([*_LOGIN, *_SENTINEL_LOGIN]),
                }
            ),
            "worker": asked.worker.model_copy(update=worker),
        }
        if "exporter" in self._ports:
            exporter: dict[str, Any] = {"port": self._ports["exporter"], "web_config_file": None}
            if self._with_simulate:
                company = simulated_company(self.log_dir, datetime.now(UTC).date())
                exporter |= {
                    setting: value
                    for setting, value in company.items()
                    if setting not in asked.exporter.model_fields_set
                }
            changes["exporter"] = asked.exporter.model_copy(update=exporter)
        if "intake" in self._ports:
            changes["intake"] = asked.intake.model_copy(update={"port": self._ports["intake"]})
        return asked.model_copy(update=changes)


def _redis_url(port: int) -> str:
    return f"redis://{HOST}:{port}/0"


def _answers(question: Coroutine[Any, Any, Result]) -> Result | None:
    """Return the answer of a server; None if there is none."""
    try:
        return asyncio.run(question)
    except Unavailable:
        return None
