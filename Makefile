# Targets are explained by `make help`; each line `target: ## text` is its documentation.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
DATA_DIR ?= .zen-fabric/dev
# One feature set for every test target, so that the crate is compiled once.
TEST_FLAGS := --workspace --features zen-fabric/testing

.PHONY: help run build check fmt lint deny test test-fast tools crds sim sim-replay sim-mutants model bench bench-stores load load-crash load-journal chaos rival chaos-list chaos-reproduce clean-data

help: ## Show what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build and start `zen-fabric dev` (data in DATA_DIR, default .zen-fabric/dev)
	$(CARGO) run --bin zen-fabric -- dev --data-dir $(DATA_DIR)

build: ## Build the release binary
	$(CARGO) build --release --bin zen-fabric

check: fmt lint deny ## Formatting, lints, docs, dependency policy

fmt:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --all-features --quiet

deny:
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; \
	else echo "cargo-deny is not installed: the dependency policy in deny.toml was not checked"; fi

test: tools ## Everything, the real kube-apiserver included
	$(CARGO) test $(TEST_FLAGS) --features zen-fabric/real-cluster,chaos/real-cluster

test-fast: ## Everything that needs no real kube-apiserver
	$(CARGO) test $(TEST_FLAGS)

tools: ## Provide kube-apiserver, etcd and kubectl (from KUBEBUILDER_ASSETS, target/tools, or built with Go)
	./tools/provide.sh

crds: ## Generate crds/*.yaml
	$(CARGO) run --quiet --bin zen-fabric -- crd --out crds

sim: ## Simulate N clusters (default 1,000,000), from seed FROM; needs no cluster
	ZEN_SIM_SCHEDULES=$(or $(N),1000000) ZEN_SIM_FROM=$(or $(FROM),1) \
		$(CARGO) test --release --features testing --test sim no_schedule_breaks_a_rule -- --nocapture

sim-replay: ## Print what happens in the simulated cluster of SEED, with a MUTANT planted if one is named
	ZEN_SIM_SEED=$(SEED) $(if $(MUTANT),ZEN_SIM_MUTANT=$(MUTANT)) $(CARGO) test --release --features testing --test sim replay -- --nocapture

sim-mutants: ## Plant every mutant, and show after how many schedules the simulator finds it
	$(CARGO) test --release --features testing --test sim mutants -- --ignored --nocapture

model: ## Take every way of a small fleet: one deviation anywhere, then three replicas (minutes)
	ZEN_MODEL_FULL=1 ZEN_MODEL_WINDOW_MS=4000 $(CARGO) test --release --features testing --test model no_way -- --nocapture
	ZEN_MODEL_REPLICAS=3 ZEN_MODEL_DEVIATIONS=0 $(CARGO) test --release --features testing --test model no_way -- --nocapture

bench: ## Microbenchmarks (criterion)
	$(CARGO) bench --features testing

bench-stores: ## fjall and redb under the journal's workload, for ADR 0001
	cd benches/stores && $(CARGO) run --release

load: tools build ## Measure every performance bar and write docs/performance.md
	$(CARGO) run --release -p loadtest -- report

load-crash: build ## kill -9 under load, at least 50 times, then compare every object
	$(CARGO) run --release -p loadtest -- crash --kills 50

load-journal: ## The trimming bar of the journal: 2,000,000 records, one paused Ingestor beside a busy one
	ZEN_JOURNAL_RECORDS=2000000 $(CARGO) test --release --features testing --test it journal::trim

chaos: tools build rival ## Break a fleet of real processes; S=name: that scenario alone, ARGS=--short: in minutes
	$(CARGO) run --release -p chaos -- $(ARGS) run $(S)

rival:
	cd chaos/rival && $(CARGO) build --target-dir ../../target/rival

chaos-list: ## Tell which scenarios `make chaos` has
	$(CARGO) run --release -p chaos -- list

chaos-reproduce: tools rival ## Two candidates win one Lease with kube-leader-election, and never with this elector
	$(CARGO) run --release -p chaos -- reproduce

clean-data: ## Remove what `make run` has stored
	rm -rf $(DATA_DIR)
