#!/usr/bin/env bash
# Hosts for tests on one machine: bare Debian 12 with systemd as init, an address, sshd, and room for podman. Root, Debian 12
# and a cgroup v1 or hybrid hierarchy are needed, and mmdebstrap, dpkg-dev, iproute2, openssh-client.
#
#   hosts.sh tree FOLDER              makes the system of all hosts, once, and a bridge between them
#   hosts.sh up FOLDER NAME ADDRESS   boots a host in 10.78.0.0/24; this machine is 10.78.0.1 there
#   hosts.sh run FOLDER NAME CMD...   runs a command in a host, as root
#   hosts.sh reboot FOLDER NAME ADDRESS   ends a host as a power cut does, boots it again: its disk stays
#   hosts.sh down FOLDER              ends and removes all of them; the tree stays
#
# FOLDER/key is root's key for ssh. A host has no route to elsewhere. `apt-get install` in it takes what PACKAGES lists, and
# what these need, from an archive of its own. Nothing of them is installed, Python neither.
set -euo pipefail
command=${1:?usage: hosts.sh tree|up|run|reboot|down FOLDER ...}
folder=$(mkdir -p "${2:?a folder}" && cd "$2" && pwd)
shift 2
PACKAGES=(chrony haproxy nftables podman prometheus prometheus-alertmanager puppet-agent python3 python3-apt)
bridge=br-model controllers=(memory pids cpu cpuacct cpuset devices freezer blkio)

tree() {
  local t=$folder/tree unit known
  known=$(declare -f tree | sha256sum)${PACKAGES[*]}
  [[ $(cat "$t/.done" 2>/dev/null) != "$known" ]] || return 0
  rm -rf "$t"
  # runc, because crun refuses hybrid cgroups.
  mmdebstrap --quiet --mode=root --variant=minbase --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include=ca-certificates,dbus,iproute2,openssh-server,runc,systemd,systemd-sysv,usr-is-merged \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$t" /etc/apt/sources.list.d/debian.sources
  cp /etc/resolv.conf "$t/etc/"
  cp -r /usr/local/share/ca-certificates/. "$t/usr/local/share/ca-certificates/" 2>/dev/null || true
  chroot "$t" update-ca-certificates >/dev/null 2>&1 || true
  chroot "$t" apt-get update -qq
  chroot "$t" apt-get install -y -qq --no-install-recommends --download-only "${PACKAGES[@]}" >/dev/null
  mkdir -p "$t/var/local/debs"
  mv "$t"/var/cache/apt/archives/*.deb "$t/var/local/debs/"
  (cd "$t/var/local/debs" && dpkg-scanpackages --multiversion . 2>/dev/null >Packages)
  rm -rf "$t"/etc/apt/sources.list.d/* "$t"/var/lib/apt/lists/*
  echo 'deb [trusted=yes] file:/var/local/debs ./' >"$t/etc/apt/sources.list"
  printf '[[registry]]\nlocation = "10.78.0.1:5000"\ninsecure = true\n' >"$folder/registry.conf"
  install -D -m 644 "$folder/registry.conf" "$t/etc/containers/registries.conf.d/tests.conf"
  for unit in systemd-{udevd,udev-trigger,logind,sysctl,modules-load,remount-fs,networkd,resolved}.service \
    systemd-udevd-{kernel,control}.socket getty@tty1.service console-getty.service dev-hugepages.mount \
    sys-kernel-{debug,tracing}.mount sys-fs-fuse-connections.mount tmp.mount; do
    ln -sf /dev/null "$t/etc/systemd/system/$unit"
  done
  # Limits no higher than this machine's hard ones.
  printf '[containers]\ndefault_ulimits = ["nofile=%s:%s", "nproc=32768:32768"]\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' \
    "$(ulimit -Hn)" "$(ulimit -Hn)" >"$t/etc/containers/containers.conf"
  [[ -f $folder/key ]] || ssh-keygen -q -t ed25519 -N '' -f "$folder/key"
  install -D -m 600 "$folder/key.pub" "$t/root/.ssh/authorized_keys"
  rm -f "$t"/etc/ssh/ssh_host_*
  echo force-unsafe-io >"$t/etc/dpkg/dpkg.cfg.d/fast"
  echo "$known" >"$t/.done"
}

boot() { # NAME ADDRESS
  local name=$1 address=$2 h=$folder/$1 r=$folder/$1/root c f
  mkdir -p "$h"
  mountpoint -q "$h" || mount -t tmpfs -o size=3g tmpfs "$h" # its disk: fast, and gone at once
  mkdir -p "$h"/{upper,work,root,containers}
  mountpoint -q "$r" || mount -t overlay overlay -o "lowerdir=$folder/tree,upperdir=$h/upper,workdir=$h/work" "$r"
  ( # one at a time: the first one makes /run/netns a mount
    flock 9
    if [[ ! -e /run/netns/t-$name ]]; then
      ip netns add "t-$name"
      ip link add "v-$name" type veth peer name eth0 netns "t-$name"
      ip link set "v-$name" master $bridge up
      ip -n "t-$name" addr add "$address/24" dev eth0
      ip -n "t-$name" link set eth0 up
      ip -n "t-$name" link set lo up
    fi
  ) 9>"$folder/lock"
  for c in systemd "${controllers[@]}"; do [[ ! -d /sys/fs/cgroup/$c ]] || mkdir -p "/sys/fs/cgroup/$c/t-$name"; done
  for f in cpus mems; do cat "/sys/fs/cgroup/cpuset/cpuset.$f" >"/sys/fs/cgroup/cpuset/t-$name/cpuset.$f"; done
  echo 1 >"/sys/fs/cgroup/cpuset/t-$name/cgroup.clone_children"
  echo "$name" >"$r/etc/hostname"
  [[ -s $h/upper/etc/machine-id ]] || tr -d - </proc/sys/kernel/random/uuid >"$r/etc/machine-id"
  [[ -f $r/etc/ssh/ssh_host_ed25519_key ]] || ssh-keygen -q -t ed25519 -N '' -f "$r/etc/ssh/ssh_host_ed25519_key"
  cat >"$h/outer" <<I
for c in systemd ${controllers[*]}; do echo \$\$ >/sys/fs/cgroup/\$c/t-$name/cgroup.procs; done
exec ip netns exec t-$name unshare --mount --pid --uts --ipc --cgroup --fork --kill-child=SIGKILL --mount-proc=/proc bash "$h/inner"
I
  cat >"$h/inner" <<I
set -e
hostname $name; mount --make-rprivate /; mount --bind "$r" "$r"; cd "$r"
mount -t proc proc proc; mount -t sysfs -o ro sysfs sys
mkdir -p var/lib/containers; mount --bind "$h/containers" var/lib/containers # an overlay cannot lie on an overlay
mount -t tmpfs tmpfs sys/fs/cgroup
for c in ${controllers[*]}; do mkdir sys/fs/cgroup/\$c; mount -t cgroup -o \$c cgroup sys/fs/cgroup/\$c; done
mkdir sys/fs/cgroup/systemd; mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
mount -t tmpfs -o mode=755 tmpfs run; mount -t tmpfs -o mode=1777 tmpfs tmp; mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm; mount -t tmpfs -o mode=1777 tmpfs dev/shm
for d in null zero full random urandom tty fuse; do [[ ! -e /dev/\$d ]] || { touch dev/\$d; mount --bind /dev/\$d dev/\$d; }; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts; ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd; for i in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/\${i%%:*} dev/\${i##*:}; done
mkdir -p .old; pivot_root . .old; umount -l /.old
exec env -i container=oci PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=console
I
  setsid bash "$h/outer" >"$h/console.log" 2>&1 </dev/null &
  echo $! >"$h/pid"
  for _ in $(seq 100); do
    in_host "$name" systemctl is-system-running --quiet 2>/dev/null && return
    sleep 0.1
  done
  echo "$name: $(in_host "$name" systemctl is-system-running 2>&1)" >&2
}
init() { pgrep -P "$(cat "$folder/$1/pid")" | head -n 1; }
in_host() {
  local pid
  pid=$(init "$1")
  shift
  nsenter -t "$pid" -m -p -u -i -n -C -r -w env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
end() { # NAME
  local pid
  pid=$(cat "$folder/$1/pid")
  kill -9 "$(init "$1")" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}

case $command in
tree)
  tree
  ip link show $bridge >/dev/null 2>&1 || ip link add $bridge type bridge
  ip addr replace 10.78.0.1/24 dev $bridge
  ip link set $bridge up
  ;;
up) boot "$@" ;;
run) in_host "$@" ;;
reboot)
  end "$1"
  boot "$@"
  ;;
down)
  for h in "$folder"/*/root; do
    name=$(basename "$(dirname "$h")")
    [[ $name != tree && -d $h ]] || continue
    [[ ! -f $folder/$name/pid ]] || end "$name"
    umount "$folder/$name/root" 2>/dev/null || umount -l "$folder/$name/root" 2>/dev/null || true
    ip netns del "t-$name" 2>/dev/null || true
    ip link del "v-$name" 2>/dev/null || true
    for c in systemd "${controllers[@]}"; do find "/sys/fs/cgroup/$c/t-$name" -depth -type d -exec rmdir {} \; 2>/dev/null || true; done
    umount "$folder/$name" 2>/dev/null || umount -l "$folder/$name" 2>/dev/null || true
    rm -rf "${folder:?}/$name"
  done
  ip link del $bridge 2>/dev/null || true
  ;;
*)
  echo "usage: hosts.sh tree|up|run|reboot|down FOLDER ..." >&2
  exit 2
  ;;
esac
