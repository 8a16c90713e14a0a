#!/usr/bin/env bash
# Unpacks what the figures are compared with from Debian beside the other tools: etcd, dnsmasq, HAProxy, nginx and iptables. Installs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
tools=$(realpath -m "${1:-$here/.cache/tools}")

# unpack FOLDER PACKAGE…: a folder appears under its own name only when it is complete; a peer that cannot be had is left out.
unpack() {
  local folder=$tools/$1 part=$tools/$1.part
  shift
  [ ! -d "$folder" ] || return 0
  rm -rf "$part"
  mkdir -p "$part/archives/partial"
  if apt-get install -y -qq --no-install-recommends --reinstall --download-only -o Dir::Cache::archives="$part/archives" "$@" >&2; then
    for package in "$part"/archives/*.deb; do
      dpkg -x "$package" "$part"
    done
    rm -r "$part/archives"
    mv "$part" "$folder"
  else
    rm -rf "$part"
    echo "the figures will do without $*" >&2
  fi
}

apt-get update -qq >&2 || true
unpack etcd-server etcd-server
unpack dnsmasq dnsmasq-base
unpack fronts haproxy nginx libnginx-mod-stream
[ -e "$tools/etcd" ] || ln -s etcd-server/usr/bin/etcd "$tools/etcd"
unpack iptables iptables libxtables12 libnftnl11 libmnl0
if [ -d "$tools/iptables" ]; then
  cat > "$tools/iptables-restore" <<'END'
#!/bin/sh
usr=$(dirname "$0")/iptables/usr
export LD_LIBRARY_PATH="$usr/lib/$(uname -m)-linux-gnu"
export XTABLES_LIBDIR="$LD_LIBRARY_PATH/xtables"
exec "$usr/sbin/iptables-nft-restore" "$@"
END
  chmod +x "$tools/iptables-restore"
fi
