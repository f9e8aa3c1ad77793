#!/usr/bin/env bash
# Installs what some checks need beyond Python: promtool, redis-server, a headless Chromium, Java
# and Maven from Debian's packages, by Maven the Apache Kafka that tests/kafka/pom.xml names, and the
# producers of tests/producers from PyPI, into a cache directory.
# Harmless where all is there already; where it cannot be had, `make test` says what did not run.
#
#   provision.sh        install, and verify every jar against tests/kafka/jars.sha256
#   provision.sh lock   write tests/kafka/jars.sha256 anew, after a change of the pom
#   provision.sh drawing   build the page that draws the Grafana dashboards (npm loads 650 MB)
set -euo pipefail
cd "$(dirname "$0")"

install_packages() {
  local missing=()
  command -v promtool >/dev/null || missing+=(prometheus)
  command -v amtool >/dev/null || missing+=(prometheus-alertmanager)
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v openssl >/dev/null || missing+=(openssl)
  command -v chromium-headless-shell >/dev/null || missing+=(chromium-headless-shell)
  command -v java >/dev/null || missing+=(default-jre-headless)
  command -v mvn >/dev/null || missing+=(maven)
  [ ${#missing[@]} -eq 0 ] && return
  if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "not installed: ${missing[*]} (needs apt-get and root)"
    return
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # The packages start services; the tests start their own on free ports.
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

fetch_history() { # of the commit of the release before, whose program a test builds
  [ "$(git rev-parse --is-shallow-repository)" = true ] || return 0
  git fetch --quiet --unshallow || echo "not fetched: the history of this clone (see above)"
}

fetch_kafka() { # $1: an empty directory for the jars
  mvn -B -q -Dstyle.color=never -f kafka/pom.xml \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$1"
}

digests() { # of all jars in $1, in a fixed order
  (cd "$1" && LC_ALL=C sha256sum -- *.jar)
}

provide_kafka() {
  local cache="${TOKENPULSE_TEST_CACHE:-$HOME/.cache/tokenpulse-tests}" version
  version=$(sed -n 's/.* kafka_2\.13-\(.*\)\.jar$/\1/p' kafka/jars.sha256)
  local there="$cache/kafka-$version"
  # Compared as a whole: a jar too many is as wrong as one that differs.
  if [ -d "$there" ] && digests "$there" | cmp -s - kafka/jars.sha256; then return; fi
  if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
    echo "not installed: Apache Kafka $version (needs java and mvn)"
    return
  fi
  mkdir -p "$cache"
  fetched=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$fetched"' EXIT
  if ! fetch_kafka "$fetched"; then
    echo "not installed: Apache Kafka $version (Maven could not fetch it, see above)"
    return
  fi
  if ! digests "$fetched" | diff kafka/jars.sha256 -; then
    echo "Apache Kafka $version: the jars fetched (>) are not those of tests/kafka/jars.sha256 (<);" \
      "after a wanted change run: bash tests/provision.sh lock" >&2
    exit 1
  fi
  rm -rf "$there"
  mv "$fetched" "$there"
}

lock_kafka() {
  fetched=$(mktemp -d)
  trap 'rm -rf "$fetched"' EXIT
  fetch_kafka "$fetched"
  digests "$fetched" >kafka/jars.sha256
}

provide_producers() { # $1: a lock file of SDKs, instrumentations or a gateway; $2: name of its venv
  local there="${TOKENPULSE_TEST_CACHE:-$HOME/.cache/tokenpulse-tests}/$2"
  if cmp -s "$1" "$there/installed.lock"; then return; fi
  rm -rf "$there"
  if ! "${PYTHON:-python3}" -m venv "$there" || ! "$there/bin/pip" install -q \
    --disable-pip-version-check --require-hashes -r "$1"; then
    echo "not installed: the producers of tests/$1 (pip, see above)"
    return
  fi
  cp "$1" "$there/installed.lock"
}

provide_drawing() { # of the Grafana dashboards, from Grafana's packages of npm
  local there="${TOKENPULSE_TEST_CACHE:-$HOME/.cache/tokenpulse-tests}/grafana-drawing" source
  source=$(cat grafana/draw/* | sha256sum)
  if [ -f "$there/source" ] && [ "$(cat "$there/source")" = "$source" ]; then return; fi
  if ! command -v npm >/dev/null; then
    echo "not installed: the drawing of the Grafana dashboards (needs npm)"
    return
  fi
  mkdir -p "${there%/*}"
  # Of 650 MB the bundle of 7 MB is kept. In the cache, as /tmp may be small.
  fetched=$(mktemp -d "${there%/*}/fetch.XXXXXX")
  trap 'rm -rf "$fetched"' EXIT
  cp grafana/draw/* "$fetched"
  if ! (cd "$fetched" && npm ci --silent --ignore-scripts --no-audit --no-fund && npm run --silent build); then
    echo "not installed: the drawing of the Grafana dashboards (npm, see above)"
    rm -rf "$fetched"
    return
  fi
  echo "$source" >"$fetched/out/source"
  rm -rf "$there"
  mv "$fetched/out" "$there"
  rm -rf "$fetched"
}

if [ "${1:-}" = lock ]; then
  lock_kafka
elif [ "${1:-}" = drawing ]; then
  provide_drawing
else
  install_packages
  fetch_history
  provide_kafka
  provide_producers producers/requirements.lock producers
  provide_producers producers/requirements-litellm.lock litellm
  provide_producers producers/requirements-confluent.lock confluent
  provide_producers producers/requirements-envoy.lock envoy
fi
