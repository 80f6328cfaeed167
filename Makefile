# Streamjob: what there is to do. `make` alone lists it.

PROFILE ?= ci
CARGO ?= cargo
# Servers that the tests install, and folders of failed runs, are here.
export STREAMJOB_CACHE ?= $(HOME)/.cache/streamjob
# The Go that `make packages` fetched, if it had to, else that of the machine.
export PATH := $(STREAMJOB_CACHE)/go/current/bin:$(PATH):/usr/local/go/bin

# Scenarios share two cores with their servers and workers: few at a time.
SCENARIO_THREADS ?= 2

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Always the whole workspace: a single package would be built with other features of its dependencies, all over again.
BUILD := build --locked --profile $(PROFILE) --workspace
TEST := test --locked --profile $(PROFILE) --workspace
BIN := $(or $(CARGO_TARGET_DIR),target)/$(PROFILE)

.PHONY: build
build: ## Build the binaries and all tests
	$(CARGO) $(BUILD) --all-targets

.PHONY: bins
bins:
	@$(CARGO) $(BUILD) --quiet --bins

.PHONY: demo
demo: bins ## Run three small jobs over made-up events: no server needed
	@for job in clicks sessions fraud; do \
		grep -m1 '^#' manifests/samples/$$job.yaml; \
		$(BIN)/streamjob-worker run manifests/samples/$$job.yaml --fresh --quiet --state-dir $(BIN)/demo || exit; \
	done

.PHONY: demo-check
demo-check: ## The demo, its rows compared with those that it should give
	@$(MAKE) --no-print-directory demo 2>/dev/null | grep '^{' | diff tests/demo.expected - && echo "the demo gave its $$(wc -l < tests/demo.expected) rows"

.PHONY: packages
packages: ## Install what the tests need of a Debian machine: compilers, Java, Maven, Go, containers
	@tests/servers/packages

.PHONY: test
test: packages build demo-check unit protocol properties scenarios ## What must pass: quick tests first, then scenarios on real servers (the cluster's: `make cluster`)

.PHONY: unit
unit: ## Unit tests
	$(CARGO) $(TEST) --lib --bins

.PHONY: protocol
protocol: ## The commit protocol, simulated: crashes between any two steps, planted bugs
	$(CARGO) $(TEST) --test protocol

.PHONY: properties
properties: ## The engine against the oracle, over random logs
	$(CARGO) $(TEST) --test properties

.PHONY: properties-long
properties-long: ## The same over more logs: 25,000 of windows, 25,000 of patterns
	STREAMJOB_SEEDS=0..25000 $(CARGO) $(TEST) --test properties the_engine

.PHONY: scenarios
scenarios: bins ## Real Kafka, real S3, real workers, short forms (ONLY=name selects, SKIP=name leaves out)
	$(CARGO) $(TEST) --test scenarios $(ONLY) -- --test-threads $(SCENARIO_THREADS) $(addprefix --skip ,$(SKIP))

# A cluster needs root: its test is run by sudo where we are not.
BY_SUDO := --config 'target."cfg(unix)".runner=["sudo","-E","env","PATH=$(PATH)"]'
CLUSTER := $(CARGO) $(if $(filter-out 0,$(shell id -u)),$(BY_SUDO)) $(TEST)

.PHONY: cluster
cluster: bins ## The chart and the operator on a real Kubernetes (as root; the first time builds Kubernetes)
	$(CLUSTER) --test cluster $(ONLY) -- --test-threads 1 --nocapture

.PHONY: cluster-chaos
cluster-chaos: bins ## The cluster's stories in their long form: ten minutes of faults (ONLY=name selects)
	STREAMJOB_CHAOS=1 $(CLUSTER) --test cluster $(ONLY) -- --test-threads 1 --nocapture

.PHONY: cluster-bench
cluster-bench: bins ## Five hundred jobs on one operator: how long a change takes, what it costs
	$(CLUSTER) --test cluster five_hundred_jobs -- --ignored --nocapture

.PHONY: chaos
chaos: bins ## The fault scenarios in their long form: millions of events, dozens of kills (ONLY=name selects)
	STREAMJOB_CHAOS=1 $(CARGO) $(TEST) --test scenarios $(ONLY) -- --test-threads 1 --nocapture

.PHONY: bench
bench: bins ## Print the benchmark table (BENCH=throughput, pattern, latency or flat: a part of it)
	$(CARGO) bench --locked --profile $(PROFILE) --workspace --bench bench -- $(BENCH)

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt --all

.PHONY: lint
lint: ## Formatting and clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --profile $(PROFILE) --workspace --all-targets -- -D warnings

.PHONY: audit
audit: ## Licences and advisories of the dependencies (needs cargo-deny)
	$(CARGO) deny --locked check

.PHONY: generated
generated: bins ## Write the files that are made from the types
	@for kind in streamjobs streamsnapshots; do $(BIN)/streamjob-operator crds $$kind > crds/yaml/$$kind.yaml || exit; done
	@cp crds/yaml/*.yaml helm/streamjob/crds/
	@$(BIN)/streamjob-operator reference > docs/job-file.md

HELM ?= helm
.PHONY: manifests
manifests: generated ## Render the chart to manifests/install.yaml (needs helm)
	@{ echo "# The chart helm/streamjob, rendered by 'make manifests' for the namespace streamjob."; \
		$(HELM) template streamjob helm/streamjob --namespace streamjob --include-crds --kube-version 1.33.0; } > manifests/install.yaml
