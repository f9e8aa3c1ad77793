"""Sources of Faust and aiokafka that transport.py and fetch.py of streams/kafka stand on.

We override some of their methods, go around others, and reach into the insides of a few. None of
that is promised to stay. So the source of each is pinned by its SHA-256: an upgrade that changes
one fails here, by name, with what to read again before the new digest goes into the table.

    python -m tests.streams.kafka.test_pinned_sources    prints the table of the versions installed
"""

import hashlib
import inspect
from importlib.metadata import version
from pkgutil import resolve_name

import pytest

THREAD = "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread"
DRIVER = "faust.transport.drivers.aiokafka:Consumer"
LISTENER = "faust.transport.drivers.aiokafka:ConsumerRebalanceListener"
CONSUMER = "faust.transport.consumer:Consumer"
PRODUCER = "faust.transport.drivers.aiokafka:Producer"
DELEGATE = "faust.transport.consumer:ThreadDelegateConsumer"
APP = "faust.app.base:App"
RECOVERY = "faust.tables.recovery:Recovery"
CONDUCTOR = "faust.transport.conductor"
FETCHER = "aiokafka.consumer.fetcher"
SUBSCRIPTION = "aiokafka.consumer.subscription_state"

# Why we care, to be read again when the source has changed: group -> methods.
PINNED: dict[str, tuple[str, ...]] = {
    "BatchThread replaces it: compare its arguments and what it sets on self": (
        f"{THREAD}._create_worker_consumer",
    ),
    "BatchThread._fetch_records and _next_batches replace these: compare what they read, wait for "
    "and count": (
        f"{THREAD}._fetch_records",
        f"{THREAD}.getmany",
        f"{FETCHER}:Fetcher.fetched_records",
        f"{FETCHER}:Fetcher._create_fetch_waiter",
        f"{FETCHER}:Fetcher._notify",
        f"{FETCHER}:FetchError.check_raise",
        f"{SUBSCRIPTION}:SubscriptionState.fetch_context",
        f"{SUBSCRIPTION}:SubscriptionState.fetcher_idle_time",
        f"{SUBSCRIPTION}:SubscriptionState.wait_for_assignment",
        "aiokafka.consumer.consumer:AIOKafkaConsumer.getmany",
        "aiokafka.consumer.group_coordinator:GroupCoordinator.check_errors",
    ),
    "BatchThread takes the time that this sets for a broker's last answer": (
        "aiokafka.conn:AIOKafkaConnection._handle_frame",
    ),
    "batches.take walks these instead of aiokafka's loop: compare every step of that loop": (
        f"{FETCHER}:FetchResult.__init__",
        f"{FETCHER}:FetchResult.check_assignment",
        f"{FETCHER}:FetchResult._update_position",
        f"{FETCHER}:FetchResult.getall",
        f"{FETCHER}:FetchResult.has_more",
        f"{FETCHER}:PartitionRecords.__init__",
        f"{FETCHER}:PartitionRecords.__next__",
        f"{FETCHER}:PartitionRecords._unpack_records",
        f"{FETCHER}:PartitionRecords._consume_aborted_up_to",
        f"{FETCHER}:PartitionRecords._contains_abort_marker",
        f"{FETCHER}:PartitionRecords._consumer_record",
        "aiokafka.record.control_record:ControlRecord.parse",
    ),
    "a response kept in _records must stop its partition from being fetched": (
        f"{FETCHER}:Fetcher._get_actions_per_node",
    ),
    "SecureProducer replaces the login that Faust's producer is made with": (
        f"{PRODUCER}._settings_auth",
        f"{PRODUCER}._new_producer",
    ),
    "BatchThread.confirm asks and commits through these; only the owner's commit may be accepted": (
        "aiokafka.consumer.consumer:AIOKafkaConsumer.commit",
        "aiokafka.consumer.group_coordinator:GroupCoordinator.fetch_committed_offsets",
        "aiokafka.consumer.group_coordinator:GroupCoordinator.commit_offsets",
    ),
    "a response to an older fetch must be discarded, a seek must throw away what was fetched, and "
    "MemoryRecords is made by its name in the module": (
        f"{FETCHER}:Fetcher._proc_fetch_request",
        f"{FETCHER}:Fetcher.seek_to",
        f"{THREAD}._seek_wait",
        f"{THREAD}.seek_wait",
    ),
    "BatchConsumer.seek_to_committed replaces these: it must be what decides where to read on": (
        f"{THREAD}.seek_to_committed",
        f"{DELEGATE}.seek_to_committed",
        f"{CONSUMER}.perform_seek",
    ),
    "whole batches pass through these as one message; the generation must be the batch's own": (
        f"{DRIVER}._new_consumer_thread",
        f"{DRIVER}._to_message",
        f"{DELEGATE}._getmany",
        f"{CONSUMER}.getmany",
        f"{CONSUMER}._wait_next_records",
        f"{CONSUMER}._drain_messages",
        f"{CONSUMER}.track_message",
        f"{CONDUCTOR}:ConductorCompiler.build",
        f"{CONDUCTOR}:Conductor._build_handler",
    ),
    "acknowledgements and commits are ours: nothing of Faust's books may decide an offset": (
        f"{CONSUMER}.ack",
        f"{CONSUMER}._add_gap",
        f"{CONSUMER}.commit",
        f"{CONSUMER}.force_commit",
        f"{CONSUMER}._commit_tps",
        f"{CONSUMER}._commit_offsets",
        f"{CONSUMER}._filter_committable_offsets",
        f"{CONSUMER}._new_offset",
        f"{CONSUMER}._commit_handler",
        f"{DELEGATE}._commit",
        f"{THREAD}.commit",
        f"{THREAD}._commit",
    ),
    "Faust's own detectors of a stall are switched off, the watchdog looks instead": (
        f"{DRIVER}.verify_event_path",
        f"{THREAD}.verify_event_path",
        f"{CONSUMER}._commit_livelock_detector",
    ),
    "a rebalance: revoke, assign, load and seek, resume, in this order and with these deadlines": (
        f"{LISTENER}.on_partitions_revoked",
        f"{LISTENER}.on_partitions_assigned",
        f"{DELEGATE}.threadsafe_partitions_revoked",
        f"{DELEGATE}.threadsafe_partitions_assigned",
        f"{CONSUMER}.on_partitions_revoked",
        f"{CONSUMER}.on_partitions_assigned",
        f"{APP}._on_partitions_revoked",
        f"{APP}._on_partitions_assigned",
        f"{RECOVERY}.on_rebalance",
        f"{RECOVERY}._resume_streams",
        f"{RECOVERY}._restart_recovery",
        f"{RECOVERY}._wait",
        f"{RECOVERY}.on_recovery_completed",
    ),
    "a clean stop: on_before_shutdown, which writes the last checkpoint, comes first": (
        f"{APP}.on_stop",
        f"{APP}._stop_consumer",
        f"{APP}.on_first_start",
        f"{APP}._create_directories",
        f"{DRIVER}.on_stop",
    ),
}

PACKAGES = ("faust-streaming", "mode-streaming", "aiokafka")
TABLE = """
c2701bfc3e6f6cad faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer
39a2c6c79fc1455a faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records
26fc5fc9f3b667e1 faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.getmany
be4348896b9b66af aiokafka.consumer.fetcher:Fetcher.fetched_records
61d840568746477e aiokafka.consumer.fetcher:Fetcher._create_fetch_waiter
d3a30d94f34fd3a0 aiokafka.consumer.fetcher:Fetcher._notify
f03628e12d3f8d4e aiokafka.consumer.fetcher:FetchError.check_raise
ff2a654dca239cfe aiokafka.consumer.subscription_state:SubscriptionState.fetch_context
45289bef04d7a4e3 aiokafka.consumer.subscription_state:SubscriptionState.fetcher_idle_time
7f09ce46a80d23d8 aiokafka.consumer.subscription_state:SubscriptionState.wait_for_assignment
bc6d248e42a4e9d9 aiokafka.consumer.consumer:AIOKafkaConsumer.getmany
ba6ca51ad34838d9 aiokafka.consumer.group_coordinator:GroupCoordinator.check_errors
46a7d9b8cf7ca222 aiokafka.conn:AIOKafkaConnection._handle_frame
126a3e45763bd404 aiokafka.consumer.fetcher:FetchResult.__init__
b5340df67e3f330f aiokafka.consumer.fetcher:FetchResult.check_assignment
83fb1473bf10027b aiokafka.consumer.fetcher:FetchResult._update_position
3e717e30de5068d5 aiokafka.consumer.fetcher:FetchResult.getall
a25ee8ab93405df6 aiokafka.consumer.fetcher:FetchResult.has_more
8ec1c2ae6ea1af87 aiokafka.consumer.fetcher:PartitionRecords.__init__
63ac34a08c309098 aiokafka.consumer.fetcher:PartitionRecords.__next__
b803e6d46480732c aiokafka.consumer.fetcher:PartitionRecords._unpack_records
56876530cd6412f3 aiokafka.consumer.fetcher:PartitionRecords._consume_aborted_up_to
17e9ad2322ef4e0a aiokafka.consumer.fetcher:PartitionRecords._contains_abort_marker
e668541600b047ab aiokafka.consumer.fetcher:PartitionRecords._consumer_record
643de4890a23c02b aiokafka.record.control_record:ControlRecord.parse
1dab2cf937d165d0 aiokafka.consumer.fetcher:Fetcher._get_actions_per_node
6d47a0b8599c573e faust.transport.drivers.aiokafka:Producer._settings_auth
e72355c3430ed02f faust.transport.drivers.aiokafka:Producer._new_producer
79b057d88220e5a2 aiokafka.consumer.consumer:AIOKafkaConsumer.commit
6c049c7379165952 aiokafka.consumer.group_coordinator:GroupCoordinator.fetch_committed_offsets
5cbe31af28d6cc06 aiokafka.consumer.group_coordinator:GroupCoordinator.commit_offsets
59bf948fff47eed5 aiokafka.consumer.fetcher:Fetcher._proc_fetch_request
f0ba6aba6c22ef83 aiokafka.consumer.fetcher:Fetcher.seek_to
9d221e816d940467 faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._seek_wait
12e8d34e554e9024 faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.seek_wait
775ab0adc4b052ab faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.seek_to_committed
f1d483b861b0328b faust.transport.consumer:ThreadDelegateConsumer.seek_to_committed
0e8c130ff4b0afd8 faust.transport.consumer:Consumer.perform_seek
0870ec53dea75083 faust.transport.drivers.aiokafka:Consumer._new_consumer_thread
7c24f6511b2fcef7 faust.transport.drivers.aiokafka:Consumer._to_message
f9d47aa9010b5ff2 faust.transport.consumer:ThreadDelegateConsumer._getmany
4b168d84882a70d6 faust.transport.consumer:Consumer.getmany
6218e1969a636b3f faust.transport.consumer:Consumer._wait_next_records
44a2500309e83c63 faust.transport.consumer:Consumer._drain_messages
217d7f1399a4cd8e faust.transport.consumer:Consumer.track_message
837cf521368c1ee4 faust.transport.conductor:ConductorCompiler.build
5c071d1277988c57 faust.transport.conductor:Conductor._build_handler
5fcf41cf45153475 faust.transport.consumer:Consumer.ack
4df2573ded7c1c2c faust.transport.consumer:Consumer._add_gap
a354437baaa08bf8 faust.transport.consumer:Consumer.commit
cc094614d22c70fb faust.transport.consumer:Consumer.force_commit
a20e230b05ae8b15 faust.transport.consumer:Consumer._commit_tps
1a69799041188441 faust.transport.consumer:Consumer._commit_offsets
dc5e9baf5d994485 faust.transport.consumer:Consumer._filter_committable_offsets
1d2c7ea89a7ad4f1 faust.transport.consumer:Consumer._new_offset
4e5da5df073082d6 faust.transport.consumer:Consumer._commit_handler
a20eec84e4b2ed50 faust.transport.consumer:ThreadDelegateConsumer._commit
d31c8558ba25310c faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.commit
932852ce7a23f658 faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._commit
a17e8f0610e1abcb faust.transport.drivers.aiokafka:Consumer.verify_event_path
b983e7735f647cb3 faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.verify_event_path
af196ff46fd42a14 faust.transport.consumer:Consumer._commit_livelock_detector
348c3aec879faf80 faust.transport.drivers.aiokafka:ConsumerRebalanceListener.on_partitions_revoked
1c1f8406ad3698a6 faust.transport.drivers.aiokafka:ConsumerRebalanceListener.on_partitions_assigned
6c55d67e9eb06ca5 faust.transport.consumer:ThreadDelegateConsumer.threadsafe_partitions_revoked
50fac26841ad9934 faust.transport.consumer:ThreadDelegateConsumer.threadsafe_partitions_assigned
d04b7ae72c6fc206 faust.transport.consumer:Consumer.on_partitions_revoked
29ce96596f05a18c faust.transport.consumer:Consumer.on_partitions_assigned
d5c895bbe57dc73a faust.app.base:App._on_partitions_revoked
de932b7927db85b3 faust.app.base:App._on_partitions_assigned
aa4d997a1795ceae faust.tables.recovery:Recovery.on_rebalance
d986a6710c1aca98 faust.tables.recovery:Recovery._resume_streams
6bd8a8558a2dffe4 faust.tables.recovery:Recovery._restart_recovery
ec7429b70176f8c6 faust.tables.recovery:Recovery._wait
6ef567acf072e46d faust.tables.recovery:Recovery.on_recovery_completed
bfe5a933defb2324 faust.app.base:App.on_stop
55854a5de12c3f52 faust.app.base:App._stop_consumer
ec655d9c223403cc faust.app.base:App.on_first_start
a9f571c3b04abec3 faust.app.base:App._create_directories
173f86b366f3608e faust.transport.drivers.aiokafka:Consumer.on_stop
"""
DIGESTS = {name: digest for digest, name in (line.split() for line in TABLE.strip().splitlines())}


def source_of(name: str) -> str:
    """The source of a method, also of one that is wrapped as a property or a service's task."""
    found = resolve_name(name)
    for wrapped in ("fget", "fun"):
        found = getattr(found, wrapped, found)
    return inspect.getsource(inspect.unwrap(found))


def digest_of(name: str) -> str:
    """SHA-256 of the source, cut to what is plenty to notice a change."""
    return hashlib.sha256(source_of(name).encode()).hexdigest()[:16]


NAMES = [(name, why) for why, names in PINNED.items() for name in names]


def test_every_pinned_method_has_a_digest_and_every_digest_a_reason() -> None:
    assert sorted(DIGESTS) == sorted(name for name, _ in NAMES)


@pytest.mark.parametrize(("name", "why"), NAMES, ids=[name for name, _ in NAMES])
def test_the_source_we_stand_on_has_not_changed(name: str, why: str) -> None:
    installed = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    try:
        found = digest_of(name)
    except AttributeError:
        pytest.fail(f"{name} is gone in {installed}. Read again: {why}.")
    assert found == DIGESTS[name], (
        f"{name} is another one in {installed}. Read again: {why}. Then write {found!r} here, or "
        "the whole table by what `python -m tests.streams.kafka.test_pinned_sources` prints."
    )


if __name__ == "__main__":
    for name, _ in NAMES:
        print(digest_of(name), name)
