#!/usr/bin/env bash
# Installs what some checks need beyond Python: promtool and redis-server, from Debian's packages.
# Harmless where they are there already; where they cannot be had, `make test` says what did not run.
set -euo pipefail
missing=()
command -v promtool >/dev/null || missing+=(prometheus)
command -v redis-server >/dev/null || missing+=(redis-server)
[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "not installed: ${missing[*]} (needs apt-get and root)"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# The packages start services; the tests start their own on free ports.
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
