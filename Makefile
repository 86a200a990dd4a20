# haechi: `make demo` sets up and shows the main job; `make test` proves it. `make help` lists all.
PY ?= python3
VENV := .venv/bin
SETUP := $(PY) tools/setup.py

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-check test lint types unit integration e2e bundle lab test-lab test-lab-more lab-clean bench-lab soak demo-cluster docs dashboard openapi lock migration bench dist clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Install and prepare everything that demo and test need (idempotent)
	$(SETUP) --with browser

demo: ## Set up, run a small site with four cameras and three devices, print the dashboard's address
	$(SETUP)
	$(MAKE) --no-print-directory dashboard
	$(VENV)/python demo/run.py

demo-check: ## Run the same site without a browser for a minute; the last line is a JSON report
	$(SETUP)
	$(VENV)/python demo/check.py

test: setup dashboard ## Everything: lint, types, contracts, unit, integration, browser, docs
	$(VENV)/python tools/test.py

lint: ## Format check, ruff, import contract, file sizes
	$(VENV)/python tools/test.py lint

types: ## mypy, strict
	$(VENV)/python tools/test.py types

unit: ## Unit and golden tier (no sockets)
	$(VENV)/python tools/test.py unit

integration: ## Contract and integration tier (real Docker, registry, RTSP)
	$(VENV)/python tools/test.py integration

e2e: dashboard ## Browser tests
	$(VENV)/python tools/test.py e2e

bundle: ## Make the offline bundle that hosts become nodes from (needs Go; cold 10 min or more)
	$(SETUP) --with lab --only bundle

lab: ## Prepare the host lab; `.venv/bin/python -m lab up NAME` starts a site
	$(SETUP) --with lab

test-lab: lab ## Clusters on real hosts (root, podman); CI runs it after make test
	$(VENV)/python tools/test.py lab

test-lab-more: lab ## Whole sites on real hosts, rarer trouble, the lab itself; not in CI
	$(VENV)/python tools/test.py lab-more

demo-cluster: lab ## Form two Kubernetes clusters on lab hosts, shown in the dashboard, until Ctrl-C
	$(MAKE) --no-print-directory dashboard
	$(VENV)/python packaging/agent/build.py
	$(VENV)/python demo/cluster.py

bench-lab: lab ## Measure clusters; ONLY="form_1_1 add_worker" some figures, ROUNDS=3; build/bench-lab.json
	$(VENV)/python -m tests.benchmarks.cluster_run $(ONLY) --rounds $(or $(ROUNDS),1)

soak: lab ## Long outages on a cluster of lab hosts; MINUTES=20
	$(VENV)/python -m tests.benchmarks.soak --minutes $(or $(MINUTES),20)

lab-clean: ## Remove every lab host and network on this machine, whoever made it
	$(VENV)/python -m lab clean

docs: ## Write the generated reference pages anew
	$(VENV)/python tools/docs.py
	$(VENV)/python tools/interop_docs.py

openapi: ## Write dashboard/openapi.json from the code
	$(VENV)/haechi openapi > dashboard/openapi.json

dashboard: ## Build the dashboard into the package
	$(PY) tools/dashboard.py

lock: ## Resolve requirements.lock anew (packages at least seven days old, hashes, no addresses)
	$$($(SETUP) --path uv) pip compile pyproject.toml --group dev --group demo --universal \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --exclude-newer "$$(date -u -d '7 days ago' +%F)" --upgrade -o requirements.lock

migration: ## Write the next migration from the models: make migration name=what_it_does
	$(VENV)/python tools/migration.py "$(name)"

bench: ## Measure; prints a table and writes build/bench.json
	$(SETUP)
	$(VENV)/python tests/benchmarks/run.py

dist: dashboard ## Build the wheel (contains the dashboard)
	$(VENV)/python -m hatchling build

clean: ## Remove what was built in this checkout (caches stay)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache src/haechi/web/static
