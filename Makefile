# The two commands that matter: `make run` and `make test`.

CARGO ?= cargo
TOOLS := $(CURDIR)/.cache/tools
# Recorded requests and answers of a real Kubernetes API server, where they are at hand.
CONFORMANCE ?= ../shared/conformance

.PHONY: run test tools fmt lint unit lab conformance bench

run:
	$(CARGO) run --release -- up -f examples/kubia.yaml

test: tools fmt lint unit conformance

tools:
	tests/tools/install.sh $(TOOLS)

fmt:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@! $(CARGO) tree -e normal,build -i aws-lc-rs 2>/dev/null | grep . || (echo "aws-lc-rs is a C build we do not want" && false)
	@! $(CARGO) tree -e normal,build -i openssl-sys 2>/dev/null | grep . || (echo "openssl-sys is a C library we do not want" && false)

# Unit, golden, property and scenario tests of every crate, and the lab of network namespaces (root).
unit:
	PATH="$(TOOLS):$$PATH" $(CARGO) test --workspace

lab:
	PATH="$(TOOLS):$$PATH" $(CARGO) test --test tests

conformance:
	PATH="$(TOOLS):$$PATH" tests/conformance.sh $(CONFORMANCE)

# The figures of the README (root).
bench: tools
	tests/tools/peers.sh $(TOOLS)
	PATH="$(TOOLS):$$PATH" $(CARGO) bench --bench figures
