#!/usr/bin/env bash
# Provides what tests/stack/test_containers.py needs to run docker-compose.yml on a real container
# engine without a registry: Docker with Compose from Debian 13, and the root file system of Debian
# that the images begin with. Both go into a cache directory; the engine is not installed, and no
# service of it is started. Harmless if all is there already.
#
# Docker of Debian 12 is 20.10, which lacks `start_interval` of health checks. That of Debian 13
# needs no newer libraries than those of Debian 12, but its runc does.
set -euo pipefail
there="${TOKENPULSE_TEST_CACHE:-$HOME/.cache/tokenpulse-tests}/engine"
engine=(docker.io docker-cli containerd tini docker-compose docker-buildx)
# What the images need beyond a minimal Debian 12; the Alertmanager of Debian 12 lacks `url_file`.
base=(python3 python3-venv ca-certificates redis-server openjdk-17-jre-headless prometheus)
later=(prometheus-alertmanager)

absent() { # $1: why
  echo "not installed: the container engine ($1)"
  exit 0
}

sources() { # $1: release; the configured sources of Debian, for that release
  local own
  own=$(. /etc/os-release && echo "$VERSION_CODENAME")
  sed "s/\b$own\b/$1/g; s/\b$own-/$1-/g" /etc/apt/sources.list.d/debian.sources
}

later_release() { # $1: directory of its own for apt; the rest: arguments of apt-get
  local directory=$1
  shift
  apt-get -qq -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$directory/sources" \
    -o "Dir::State::Lists=$directory/lists" -o "Dir::Cache=$directory" -o APT::Sandbox::User=root "$@"
}

if cmp -s "$0" "$there/provisioned-by"; then exit 0; fi
[ "$(id -u)" -eq 0 ] || absent "needs root"
[ -e /etc/apt/sources.list.d/debian.sources ] || absent "needs Debian, and its apt sources"

rm -rf "$there"
mkdir -p "$there"
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends iptables mmdebstrap >/dev/null

mkdir -p "$made/sources" "$made/lists/partial" "$made/packages"
sources trixie >"$made/sources/trixie.sources"
later_release "$made" update
(cd "$made/packages" && later_release "$made" download "${engine[@]}" "${later[@]}")
(cd "$made/packages" && apt-get -qq -o APT::Sandbox::User=root download runc)
for package in "$made"/packages/*.deb; do
  dpkg-deb -x "$package" "$there"
done

# Every stand-in of tests/engine/Dockerfile begins with it.
sources bookworm >"$made/bookworm.sources"
mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${base[*]}")" \
  bookworm "$made/base.tar" "$made/bookworm.sources"
tar --append --file "$made/base.tar" --directory "$there" \
  usr/bin/prometheus-alertmanager usr/bin/amtool usr/share/prometheus/alertmanager
mv "$made/base.tar" "$there/base.tar"
cp "$0" "$there/provisioned-by"
