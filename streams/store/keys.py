"""The names of all Redis keys.

Pure. The braces keep the keys of one partition, and those of one topic, on the same node of a
cluster. `deploy/redis/users.acl` grants access by the same names.
"""

from dataclasses import dataclass

# Ends of the keys of hashes; `hash_archive` archives those whose names start so.
DAYS = "days"
BOARD_INCIDENTS = "board-incidents"
CUSTOMER_TOKENS = "customer-tokens"
INCIDENTS = "incidents"
MAINTENANCE = "maintenance"
# With a colon: families of hashes, one for each objective or day.
LEDGER = "ledger:"
SENT = "sent:"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one consumer group and topic."""

    group: str
    topic: str

    def partition(self, partition: int) -> str:
        """Return the key of the hash that holds a partition's state."""
        return f"tp:{{{self.group}:{self.topic}:{partition}}}"

    def heartbeat(self, partition: int) -> str:
        """Return the key of the hash that a partition's worker renews even if no record arrives."""
        # Published names keep their spelling: `pulse` here, `order` below.
        return f"{self.partition(partition)}:pulse"

    def command(self, partition: int) -> str:
        """Return the key of the hash that holds the last operator command for a partition."""
        return f"{self.partition(partition)}:order"

    @property
    def prefix(self) -> str:
        """The common start of the keys that belong to no single partition."""
        return f"tp:{{{self.group}:{self.topic}}}:"

    @property
    def partitions(self) -> str:
        """The set of the partitions that were ever claimed."""
        return f"{self.prefix}partitions"

    @property
    def scenarios(self) -> str:
        """The hash of the scenarios that operators requested."""
        return f"{self.prefix}scenarios"

    @property
    def simulators(self) -> str:
        """The hash in which each running simulator reports its state."""
        return f"{self.prefix}simulators"

    @property
    def days(self) -> str:
        """The hash of finalised days."""
        return f"{self.prefix}{DAYS}"

    @property
    def maintenance(self) -> str:
        """The hash of maintenance windows."""
        return f"{self.prefix}{MAINTENANCE}"

    @property
    def incidents(self) -> str:
        """The hash of the status page's incidents."""
        return f"{self.prefix}{INCIDENTS}"

    @property
    def board_incidents(self) -> str:
        """The hash of the incidents that the live board showed in the last day."""
        return f"{self.prefix}{BOARD_INCIDENTS}"

    @property
    def customer_tokens(self) -> str:
        """The hash of the tokens that customers kept when the key of their ids was changed."""
        return f"{self.prefix}{CUSTOMER_TOKENS}"

    @property
    def archived_hashes(self) -> str:
        """The hash with the number of the last pass that archived hashes of this topic."""
        return f"{self.prefix}hashes"

    def source_counts(self, slot: int) -> str:
        """Return the key of the hash of the counts of the intake's sources in one slot of time."""
        return f"{self.prefix}source-counts:{slot}"

    def source_changes(self, day: int) -> str:
        """Return the key of the hash that marks the slots of a day as changed, by their start.

        `day`: days since 1970.
        """
        return f"{self.prefix}source-counts:changes:{day}"

    def sent(self, date: str) -> str:
        """Return the key of the hash of deliveries of one day's board."""
        return f"{self.prefix}{SENT}{date}"

    def ledger(self, ledger_id: str, month: str | None = None) -> str:
        """Return the key of an objective's closed periods, or of its counts in a month."""
        return f"{self.prefix}{LEDGER}{ledger_id}" + (f":{month}" if month else "")
