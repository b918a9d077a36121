#!/usr/bin/env bash
# Copies what is described to all hosts of deploy/hosts.yaml by ssh, and has Puppet apply it there, the balancer first. It
# ends when the rollout has begun, which needs nobody; `make deploy` follows it to its end. Exit status 1: something failed.
#   deploy/puppet/apply.sh [OPTIONS OF PUPPET, such as --noop]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(command -v .venv/bin/python || command -v python3)
[[ -f deploy/release.yaml ]] || { echo "error: deploy/release.yaml is missing: \`make release\` writes it" >&2; exit 1; }

# NAME ROLES USER@HOST root|sudo OPTIONS OF SSH: words for the shell, one line a host, the balancer first; read and checked
# as `make deploy` does it.
hosts() {
  PYTHONPATH=src "$python" - src/*/harness <<'PYTHON'
import shlex
import sys
from importlib import import_module
from pathlib import Path

package = f"{Path(sys.argv[1]).parent.name}.harness"
try:
    hosts = import_module(f"{package}.delivery.hosts")
    hosts.require_own_addresses(found := hosts.read())
except import_module(f"{package}.core.errors").UserError as error:
    sys.exit(f"error: {error}")
roles = {}
for role, host in (("balancer", found.balancer), *(("servers", each) for each in found.servers)):
    roles.setdefault(host.name, (host, []))[1].append(role)
for host, own in roles.values():
    print(shlex.join([host.name, ",".join(own), host.place, "root" if host.is_root else "sudo", *host.options]))
PYTHON
}

on() { # USER@HOST root|sudo OPTIONS... -- COMMAND: as root
  local where=$1 user=$2 options=(); shift 2
  while [[ $1 != -- ]]; do options+=("$1"); shift; done; shift
  [[ $user == root ]] || set -- "sudo -n bash -c $(printf %q "$1")"
  # shellcheck disable=SC2029 # expanded here
  ssh "${options[@]}" "$where" "$1"
}

apply() { # NAME ROLES USER@HOST root|sudo OPTIONS...
  local name=$1 roles=$2 secrets=(); shift 2
  for role in ${roles//,/ }; do [[ ! -d deploy/secrets/$role ]] || secrets+=("deploy/secrets/$role"); done
  tar --create --exclude=deploy/secrets --transform='s|^src/[^/]*/harness/||' deploy monitoring/{rules,alertmanager}.yml \
    src/*/harness/delivery/{layout,host,peers,rollout}.py >"$work/$name.tar"
  [[ -z ${secrets[*]-} ]] || tar --append --file="$work/$name.tar" "${secrets[@]}"
  on "$@" -- "set -e; command -v puppet >/dev/null || { apt-get update --quiet
      DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends puppet-agent; } >/dev/null
    rm -rf /var/cache/model; mkdir --mode=700 /var/cache/model; cd /var/cache/model; tar --extract --no-same-owner
    mkdir -p deploy/secrets/balancer deploy/secrets/servers
    FACTER_model_host=$name FACTER_model_project=/var/cache/model puppet apply --detailed-exitcodes --color=false \
      --hiera_config=deploy/puppet/hiera.yaml ${puppet[*]@Q} deploy/puppet/site.pp || status=\$?
    [ \${status:-0} = 0 ] || [ \$status = 2 ]" <"$work/$name.tar" 2>&1 | sed --unbuffered "s/^/$name: /"
}

puppet=("$@")
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
hosts >"$work/hosts"
mapfile -t lines <"$work/hosts"
host=() running=()
for line in "${lines[@]}"; do
  eval "host=($line)" # quoted by Python
  [[ ${host[1]} != balancer* ]] || { apply "${host[@]}"; continue; }
  apply "${host[@]}" & running+=($!)
done
for pid in "${running[@]}"; do wait "$pid"; done
