#!/usr/bin/env bash
# Copies what is described to all hosts of deploy/hosts.yaml by ssh, and has Puppet apply it there, the balancer first; then
# follows the rollout to its end. Exit status 1: something failed, or the release was rolled back.
#   deploy/puppet/apply.sh [OPTIONS OF PUPPET, such as --noop]
set -euo pipefail
cd "$(dirname "$0")/../.."
python=$(command -v .venv/bin/python || command -v python3)
[[ -f deploy/release.yaml ]] || { echo "error: deploy/release.yaml is missing: \`make release\` writes it" >&2; exit 1; }

# NAME ROLES USER@HOST PORT: one line a host, the balancer first; the same variables as Ansible reads.
hosts() {
  "$python" - <<'PYTHON'
import yaml

described = yaml.safe_load(open("deploy/hosts.yaml"))["all"]
found = {}
for role in ("balancer", "servers"):
    for name, host in described["children"][role]["hosts"].items():
        found.setdefault(name, ({**described.get("vars", {}), **host}, []))[1].append(role)
for name, (host, roles) in found.items():
    where = f"{host.get('ansible_user', 'root')}@{host.get('ansible_host', name)}"
    key = host.get("ansible_ssh_private_key_file", "")
    options = f"{host.get('ansible_ssh_common_args', '')} {f'-i {key}' if key else ''}".split()
    print(name, ",".join(roles), where, host.get("ansible_port", 22), *options)
PYTHON
}

on() { # USER@HOST PORT OPTIONS... -- COMMAND: as root
  local where=$1 port=$2 options=(); shift 2
  while [[ $1 != -- ]]; do options+=("$1"); shift; done; shift
  [[ $where == root@* ]] || set -- "sudo bash -c $(printf %q "$1")"
  ssh -o BatchMode=yes -p "$port" "${options[@]}" "$where" "$1"
}

apply() { # NAME ROLES USER@HOST PORT OPTIONS...
  local name=$1 roles=$2 secrets=(); shift 2
  for role in ${roles//,/ }; do [[ ! -d deploy/secrets/$role ]] || secrets+=("deploy/secrets/$role"); done
  tar --create --exclude=deploy/secrets --transform='s|^src/[^/]*/harness/||' deploy monitoring/{rules,alertmanager}.yml \
    src/*/harness/delivery/{host,rollout}.py >"$work/$name.tar"
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
first=() running=()
for line in "${lines[@]}"; do
  read -ra host <<<"$line"
  [[ ${host[1]} != balancer* ]] || { apply "${host[@]}"; first=("${host[@]:2}"); continue; }
  apply "${host[@]}" & running+=($!)
done
for pid in "${running[@]}"; do wait "$pid"; done
[[ " ${puppet[*]} " != *" --noop "* ]] || exit 0

release=$("$python" -c 'import yaml; print(yaml.safe_load(open("deploy/release.yaml"))["spec"]["release"])')
on "${first[@]}" -- "unit=model-rollout@$release.service
  while state=\$(systemctl show --property=ActiveState --value \$unit); [ \$state = active ] || [ \$state = activating ]; do sleep 1; done
  /usr/local/lib/model/rollout.py status
  /usr/local/lib/model/rollout.py run $release --check || { journalctl --unit \$unit --lines 1 --output cat >&2; exit 1; }"
