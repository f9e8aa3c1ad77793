"""/opt/kafka as in Kafka's image: the jars, and stand-ins for its scripts, which Maven lacks."""

import shutil
from pathlib import Path

from tests.support.apache_kafka import jars

# What the scripts of Kafka's image run, and are not in its jars.
_TOOLS = {
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
}
# What they give to Java if the environment names nothing else: a second collector is an error.
_PERFORMANCE_OPTIONS = "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20"


def make_kafka_home(home: Path) -> None:
    """Make the directory, readable by all users; skips the test without the jars."""
    shutil.copytree(jars(), home / "libs")
    (home / "libs").chmod(0o755)
    (home / "bin").mkdir()
    for name, main in _TOOLS.items():
        script = home / "bin" / name
        script.write_text(
            "#!/bin/sh\nexec java ${KAFKA_HEAP_OPTS:--Xmx256m} "
            f"${{KAFKA_JVM_PERFORMANCE_OPTS:-{_PERFORMANCE_OPTIONS}}} $KAFKA_LOG4J_OPTS "
            f'-cp "/opt/kafka/libs/*" {main} "$@"\n'
        )
        script.chmod(0o755)
