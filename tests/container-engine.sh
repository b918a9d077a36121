#!/usr/bin/env bash
# Makes a Debian machine without a container daemon or an image registry able to run `bentoml containerize --backend
# buildah` and `podman run --network=host`. Needs root, mmdebstrap, buildah, podman, runc, netavark; does nothing twice.
#
#   container-engine.sh FOLDER   ->  writes FOLDER/env; then: . FOLDER/env
#
# The base image is a stand-in for python:3.11-slim made of Debian's packages, under that name and of about its size. It
# has this machine's CA certificates, so that pip works in the build: an image on it is for tests alone.
set -euo pipefail
work=$(mkdir -p "${1:?usage: container-engine.sh FOLDER}" && cd "$1" && pwd)
cat >"$work/storage.conf" <<CONF
[storage]
driver = "overlay"
runroot = "$work/run"
graphroot = "$work/graph"
CONF
# Limits no higher than this machine's hard ones, and runc: crun refuses hybrid cgroups.
cat >"$work/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=$(ulimit -Hn):$(ulimit -Hn)", "nproc=32768:32768"]
[engine]
runtime = "runc"
CONF
cat >"$work/env" <<CONF
export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf BUILDAH_ISOLATION=chroot
CONF
. "$work/env"
base=docker.io/library/python:3.11-slim
podman image exists "$base" 2>/dev/null && exit 0
# usr-is-merged: else minbase brings perl along, for the conversion.
if [[ ! -s $work/base.tar ]]; then
  mmdebstrap --quiet --mode=root --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include=ca-certificates,python3,python3-pip,python3-venv,usr-is-merged \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='if ls /usr/local/share/ca-certificates/*.crt >/dev/null 2>&1; then mkdir -p "$1/usr/local/share/ca-certificates"; cp /usr/local/share/ca-certificates/*.crt "$1/usr/local/share/ca-certificates/"; chroot "$1" update-ca-certificates >/dev/null 2>&1; fi' \
    --customize-hook='ln -sf python3 "$1/usr/bin/python"; rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
    bookworm "$work/base.tar" /etc/apt/sources.list.d/debian.sources
fi
ca=/etc/ssl/certs/ca-certificates.crt
podman import -q --change "ENV SSL_CERT_FILE=$ca" --change "ENV PIP_CERT=$ca" "$work/base.tar" "$base" >/dev/null
