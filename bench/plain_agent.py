"""The plain solution to compare with: a Faust agent that counts one event at a time.

python -m bench.plain_agent BOOTSTRAP TOPIC EVENTS     prints events per second
"""

import os
import sys
import time
from typing import Any

import faust


def main() -> None:
    """Count EVENTS events, print the rate, end."""
    bootstrap, topic_name, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
    app = faust.App(
        # A consumer group of its own reads from the earliest record.
        f"plain-{os.getpid()}",
        broker=f"kafka://{bootstrap}",
        # Only the agent is measured: no leader topic, standby table or web server.
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        web_enabled=False,
        # The embedded broker's groups are stable after half the session timeout.
        broker_session_timeout=2,
        broker_heartbeat_interval=0.333,
        consumer_auto_offset_reset="earliest",
        value_serializer="raw",
        key_serializer="raw",
    )
    seen, began = 0, 0.0

    @app.agent(app.topic(topic_name, value_serializer="raw", key_serializer="raw"))
    async def count(events: Any) -> None:
        nonlocal seen, began
        async for _ in events:
            # Joining the group is not measured.
            if seen == 0:
                began = time.perf_counter()
            seen += 1
            if seen == wanted:
                print(f"{(seen - 1) / (time.perf_counter() - began):.0f}", flush=True)
                # Without Faust's shutdown, which is not part of the measurement.
                os._exit(0)

    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
