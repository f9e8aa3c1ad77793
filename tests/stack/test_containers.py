"""docker-compose.yml on a container engine, started as docs/deploy.md says, then disturbed.

Whatever happens to the containers, the requests counted are those that the intake has confirmed.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.container_engine import running_engine
from tests.support.container_stack import POLL_S, ContainerStack, Sender
from tests.support.servers import wait_until

# The first run builds the image, and a busy machine starts eight servers slowly.
pytestmark = [pytest.mark.stack, pytest.mark.engine, pytest.mark.timeout(1_200)]

ALWAYS = ("kafka", "redis", "worker", "intake", "exporter", "prometheus", "alertmanager")
RECOUNT_S = 120
DEFAULT_ROUTE = "00000000"  # as the kernel writes the destination


class Counted:
    """The stack, and how many requests it must have counted."""

    def __init__(self, stack: ContainerStack) -> None:
        self.stack = stack
        self.expected = 0

    @contextmanager
    def traffic(self, name: str) -> Iterator[None]:
        """Send events in the block; after it, all that were confirmed are counted once."""
        sender = Sender(self.stack.url("INTAKE_PORT"), self.stack.token(), name)
        sender.start()
        try:
            yield
        finally:
            self.expected += sender.stop()
        assert sender.confirmed > 0
        self.recount()

    def recount(self) -> None:
        """Wait until the expected requests are counted; fails if there are more."""
        expected = self.expected
        wait_until(
            lambda: self.stack.requests() >= expected, f"{expected} counted", RECOUNT_S, POLL_S
        )
        assert self.stack.requests() == self.expected


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    directory = tmp_path_factory.mktemp("containers")
    with running_engine(directory) as engine:
        stack = ContainerStack(engine, directory / "checkout")
        engine.provide_images(stack.foreign_images, directory)
        stack.build("first")
        try:
            stack.up(profiles=["simulate"])
            # From here on only known events arrive.
            stack.compose("stop", "simulator")
            found = Counted(stack)
            found.expected = settled(stack)
            yield found
        finally:
            stack.compose("--profile", "*", "down", "--volumes", check=False)


def settled(stack: ContainerStack) -> int:
    """Return the requests that are counted once no more arrive."""
    earlier = -1
    while (now := stack.requests()) != earlier:
        earlier = now
        time.sleep(3)
    return now


def test_the_documented_start_makes_every_service_healthy(counted: Counted) -> None:
    assert counted.expected > 0  # the simulator's
    for service in ALWAYS:
        assert counted.stack.is_healthy(service), service


def test_the_machine_is_not_in_the_networks_of_data_and_metrics(counted: Counted) -> None:
    for name in ("data", "watch"):
        assert counted.stack.addresses_of_bridge(name) == []
    routes = counted.stack.compose("exec", "--no-TTY", "worker", "cat", "/proc/net/route").stdout
    assert routes.count("\n") > 1
    assert DEFAULT_ROUTE not in [line.split()[1] for line in routes.splitlines()]


def test_the_operator_may_check_the_settings(counted: Counted) -> None:
    check = ("config", "check", "--role", "client")
    done = counted.stack.compose("run", "--rm", "--no-TTY", "operator", *check)
    assert done.stdout.endswith("settings, Kafka and Redis are fine\n")


@pytest.mark.parametrize("service", ALWAYS)
def test_a_container_that_crashed_is_started_again_and_no_event_is_lost(
    counted: Counted, service: str
) -> None:
    with counted.traffic(f"crash-{service}"):
        counted.stack.crash(service)


@pytest.mark.parametrize("service", ["redis", "kafka"])
def test_a_restarted_server_keeps_what_it_stored(counted: Counted, service: str) -> None:
    with counted.traffic(f"restart-{service}"):
        counted.stack.compose("restart", service)
        counted.stack.wait_for_health(service)


def test_a_second_worker_takes_over_partitions(counted: Counted) -> None:
    with counted.traffic("scale"):
        counted.stack.up("--no-recreate", "--scale", "worker=2")
        assert len(counted.stack.containers("worker")) == 2
    with counted.traffic("scale-back"):
        counted.stack.up("--no-recreate", "--scale", "worker=1")


def test_an_upgrade_under_traffic_costs_nothing(counted: Counted) -> None:
    before = counted.stack.container("worker")["Image"]
    with counted.traffic("upgrade"):
        counted.stack.build("second")
        counted.stack.up()
    assert counted.stack.container("worker")["Image"] != before


def test_down_and_up_keeps_what_was_counted(counted: Counted) -> None:
    counted.stack.compose("--profile", "*", "down")
    assert counted.stack.compose("ps", "--all", "--quiet").stdout == ""
    counted.stack.up()
    counted.recount()
    with counted.traffic("up-again"):
        time.sleep(1)


def test_each_container_is_below_its_limit_and_may_not_swap(
    counted: Counted, record_property: Callable[[str, object], None]
) -> None:
    used = counted.stack.memory()
    record_property(
        "told",
        "memory: " + ", ".join(f"{name} {own} of {most}" for name, (own, most) in used.items()),
    )
    for service in ALWAYS:
        host = counted.stack.container(service)["HostConfig"]
        assert host["Memory"] == host["MemorySwap"] > 0
        assert not counted.stack.container(service)["State"]["OOMKilled"]
