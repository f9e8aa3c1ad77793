"""Days to finalise."""

from tests.support.daily_state import DAY_S, World, at, some_traffic

BEGIN = at("2026-11-08 00:00")
END = BEGIN + DAY_S
DATE = "2026-11-08"


async def one_day(world: World, partitions: int = 1) -> None:
    for partition in range(partitions):
        await world.add(partition, some_traffic(partition, 60, BEGIN, END))
