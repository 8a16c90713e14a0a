#!/usr/bin/env bash
# Unpacks HAProxy and nginx from Debian beside the other tools, for the figures of `knarr front`. Installs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
tools=${1:-$here/.cache/tools}
[ ! -d "$tools/fronts" ] || exit 0
rm -rf "$tools/fronts.part"
mkdir -p "$tools/fronts.part/archives/partial"
apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives="$tools/fronts.part/archives" \
  haproxy nginx libnginx-mod-stream >&2
for package in "$tools"/fronts.part/archives/*.deb; do
  dpkg -x "$package" "$tools/fronts.part"
done
rm -r "$tools/fronts.part/archives"
# A folder appears under its own name only when it is complete.
mv "$tools/fronts.part" "$tools/fronts"
