#!/bin/sh
# Healthy: a named user gets an answer over TLS, the data are loaded, and what was written last is
# in the append-only file.
set -eu
REDISCLI_AUTH=$(cat /run/secrets/redis_health_password)
export REDISCLI_AUTH
state=$(redis-cli --no-auth-warning --user health --tls --cacert /etc/redis/tls/ca.crt \
  -h redis INFO persistence)
for wanted in loading:0 aof_enabled:1 aof_last_write_status:ok; do
  if ! printf '%s\n' "$state" | grep -q "^$wanted"; then
    echo "Redis does not say $wanted: $state" >&2
    exit 1
  fi
done
