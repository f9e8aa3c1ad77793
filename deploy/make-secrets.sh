#!/usr/bin/env bash
# Makes what docker-compose.yml reads as secrets: one file each, in deploy/secrets or in $1.
#
# What is there already stays: passwords can be changed by writing a file and running this again,
# and another customer key would make every customer a new one.
#
# The directory can be entered by its owner only. The files in it can be read by all, as the
# containers that they are mounted into run as other users than the one who starts them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
secrets=${1:-$here/secrets}
umask 077
mkdir -p "$secrets"
chmod 700 "$secrets"
cd "$secrets"

new() { # $1: file; its content comes from standard input
  local found
  found=$(cat)
  if [ ! -e "$1" ]; then
    printf '%s\n' "$found" >"$1"
    echo "$1: made"
  fi
}

users='admin worker exporter operator simulator intake health'
for user in $users; do
  openssl rand -hex 32 | new "redis_${user}_password"
done
openssl rand -hex 32 | new customer_key
openssl rand -hex 16 | new grafana_admin_password
# The senders that the intake accepts: docs/intake.md.
printf 'senders:\n  - {token: %s, tenant: default}' "$(openssl rand -hex 32)" | new intake_tokens

# The users of Redis, as the SHA-256 of their passwords.
acl=$(cat "$here/redis/users.acl")
for user in $users; do
  digest=$(tr -d '\n' <"redis_${user}_password" | openssl dgst -sha256 -r | cut -d ' ' -f 1)
  name=$(printf %s "$user" | tr '[:lower:]' '[:upper:]')
  acl=${acl//SHA256-OF-THE-$name-PASSWORD/$digest}
done
rm -f redis_users_acl
printf '%s\n' "$acl" >redis_users_acl

# An authority for Redis' certificate alone; its key is thrown away. To renew: delete redis_*.crt.
if [ ! -e redis_ca.crt ] || [ ! -e redis_tls.crt ] || [ ! -e redis_tls.key ]; then
  rm -f redis_ca.crt redis_tls.crt redis_tls.key
  authority=$(mktemp)
  trap 'rm -f "$authority"' EXIT
  certificate=(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650)
  "${certificate[@]}" -subj "/CN=Tokenpulse Redis authority" -keyout "$authority" \
    -out redis_ca.crt 2>/dev/null
  "${certificate[@]}" -subj "/CN=redis" -CA redis_ca.crt -CAkey "$authority" \
    -addext "subjectAltName=DNS:redis" -addext "basicConstraints=critical,CA:FALSE" \
    -keyout redis_tls.key -out redis_tls.crt 2>/dev/null
  echo "redis_tls.crt: made, for ten years"
fi

for receiver in pagerduty_key slack_url smtp_password webhook_url dead_man_url; do
  new "$receiver" </dev/null
  if [ ! -s "$receiver" ] || [ -z "$(tr -d '[:space:]' <"$receiver")" ]; then
    echo "$receiver: still empty, so nobody is told that way (docs/alerting.md)"
  fi
done
chmod 644 -- *
