#!/usr/bin/env bash
# Replays recorded requests of a real Kubernetes API server against a started knarr and compares every answer.
# usage: conformance.sh FOLDER [replay options]; the scenarios in known-differences may fail, any other may not.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
recordings=$1
shift
if [ ! -f "$recordings/replay.py" ]; then
  echo "conformance: SKIPPED, there are no recordings at $recordings"
  exit 0
fi

knarr=${KNARR:-$here/../target/debug/knarr}
[ -x "$knarr" ] || (cd "$here/.." && cargo build --quiet)
scratch=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$knarr" server --data-dir "$scratch" --bind 127.0.0.1 --port "$port" --service-cidr 10.0.128.0/17 2>"$scratch/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$scratch"' EXIT

deadline=$((SECONDS + 20))
until [ -f "$scratch/kubeconfig.yaml" ] && kubectl --kubeconfig "$scratch/kubeconfig.yaml" get --raw /readyz >/dev/null 2>&1; do
  if [ $SECONDS -ge $deadline ] || ! kill -0 $server 2>/dev/null; then
    echo "conformance: the server did not start"
    tail -n 5 "$scratch/log"
    exit 1
  fi
done

python3 "$recordings/replay.py" check --kubeconfig "$scratch/kubeconfig.yaml" \
  --scenarios "$recordings/scenarios" --golden "$recordings/golden" --report "$scratch/report.json" "$@" || true
python3 "$here/conformance.py" "$scratch/report.json" "$here/known-differences"
