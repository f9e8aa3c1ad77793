#!/usr/bin/env bash
# Formats the data directory at the first start, then becomes the broker.
set -euo pipefail
configuration=/mnt/shared/config
bin=/opt/kafka/bin

if [ ! -e /var/lib/kafka/data/meta.properties ]; then
  "$bin/kafka-storage.sh" format --config "$configuration/server.properties" \
    --cluster-id "$("$bin/kafka-storage.sh" random-uuid)"
fi

# Here and not in the environment: the health check is a Java program of its own.
export KAFKA_HEAP_OPTS="-Xms512m -Xmx1g"
export KAFKA_LOG4J_OPTS="-Dlog4j2.configurationFile=$configuration/log4j2.properties"
export EXTRA_ARGS="-name kafkaServer" # no log of garbage collections
exec "$bin/kafka-server-start.sh" "$configuration/server.properties"
