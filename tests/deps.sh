#!/usr/bin/env bash
# Sees to it that what `make demo` and, with the argument test or lab, `make test` or a lab run is here:
# installs it when root on Debian or Ubuntu, else says what to install and stops.
set -eu

needs_go=1.26 # as go.mod
fetches_go=1.21 # the first Go that fetches a newer one by itself

# at_least A B: version A is B or newer.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

install() {
  echo "deps: apt-get install $*"
  local log
  log=$(mktemp)
  export DEBIAN_FRONTEND=noninteractive
  if ! apt-get install -y --no-install-recommends "$@" >"$log" 2>&1 </dev/null; then
    { apt-get update && apt-get install -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null ||
      { cat "$log" >&2; rm -f "$log"; echo "deps: apt-get install $* failed" >&2; exit 1; }
  fi
  rm -f "$log"
}

# A command and the Debian packages that make it work.
missing=()
while read -r command packages; do
  # shellcheck disable=SC2206
  command -v "$command" >/dev/null || missing+=($packages)
done <<'LIST'
ip iproute2
ping iputils-ping
nsenter util-linux
etcdctl etcd-client
gcc gcc libc6-dev
git git ca-certificates
LIST

# A lab of several nodes runs Debian's etcd. Only the program is unpacked, into a folder of its own where agent/lab looks, for
# the package would start a service, and would run it from now on.
etcd_folder=/usr/local/lib/patchbay
unpack_etcd() {
  echo "deps: etcd of Debian's etcd-server, without its service, into $etcd_folder"
  local dir
  dir=$(mktemp -d)
  chmod 755 "$dir" # apt downloads as a user of its own
  (cd "$dir" && { apt-get download etcd-server || { apt-get update && apt-get download etcd-server; }; } && dpkg-deb -x etcd-server_*.deb .) \
    >"$dir/log" 2>&1 </dev/null || { cat "$dir/log" >&2; rm -rf "$dir"; echo "deps: etcd-server could not be unpacked" >&2; exit 1; }
  command install -D -m 755 "$dir/usr/bin/etcd" "$etcd_folder/etcd"
  rm -rf "$dir"
}
case "${1:-}" in test | lab)
  if ! command -v etcd >/dev/null && [ ! -x "$etcd_folder/etcd" ]; then
    if can_install; then
      unpack_etcd
    elif [ "$1" = lab ]; then
      echo "deps: etcd is missing; install it with: apt-get install etcd-server" >&2
      exit 1
    fi # without it, the tests that need a lab skip
  fi
esac

# The workloads of the tests against VPP are of no use without one; without them those tests skip.
if [ "${1:-}" = test ] && { [ -x "${VPP_PREFIX:-/opt/vpp}/bin/vpp" ] || command -v vpp >/dev/null; } && can_install; then
  command -v dpdk-testpmd >/dev/null || missing+=(dpdk-dev)
  command -v iperf3 >/dev/null || missing+=(iperf3)
fi

if [ ${#missing[@]} -gt 0 ]; then
  if ! can_install; then
    echo "deps: missing here; install as root on Debian or Ubuntu with: apt-get install -y ${missing[*]}" >&2
    exit 1
  fi
  install "${missing[@]}"
fi

go_version() { (cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || go version | awk '{print $3}') | sed 's/^go//'; }

need_go() {
  echo "deps: $1; install Go $needs_go or newer from https://go.dev/dl and put its bin folder first in PATH" >&2
  exit 1
}

# The newest golang-go that apt offers, backports included, as "version suite".
apt_go() { apt-cache madison golang-go | awk -F ' *[|] *' '{split($3, r, " "); v = $2; sub(/^[0-9]+:/, "", v); sub(/~.*/, "", v); print v, r[2]}' | sort -V | tail -n 1; }

if ! command -v go >/dev/null; then
  can_install || need_go "Go is missing"
  read -r version suite <<<"$(apt_go)" || true
  [ -n "${version:-}" ] || { apt-get update >/dev/null; read -r version suite <<<"$(apt_go)" || true; }
  [ -n "${version:-}" ] && at_least "$version" "$fetches_go" || need_go "Go is missing and apt has ${version:-none}"
  install -t "${suite%%/*}" golang-go
fi
have=$(go_version)
if ! at_least "$have" "$needs_go"; then
  at_least "$have" "$fetches_go" || need_go "Go $have is too old"
  echo "deps: Go $have fetches Go $needs_go"
  GOTOOLCHAIN=auto go version >/dev/null || need_go "Go $have could not fetch Go $needs_go"
fi
