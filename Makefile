# Every target is enough by itself: the virtual environment is made on first use, from the hash-locked Pipfile.lock.
# Needed: make, Python 3.11 or newer with venv, and the package index that pip is set up for. For the tests also
# Java 17 (a JDK), Maven, Postgres and MariaDB ('.ci/run' installs them): without these the tests on the real servers are skipped.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

# The Python to make the environment with: make venv PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# One more than there are processors: about a third of the tests' time is waiting for servers and leases.
TEST_PROCESSES ?= $(shell echo $$(( $$(nproc 2>/dev/null || echo 2) + 1 )))
PIPENV_VERSION := 2026.10.3
PIPENV := .venv-pipenv/bin/pipenv
PIPENV_STAMP := .venv-pipenv/.$(PIPENV_VERSION)
# pipenv uses .venv, also when it is called from inside another environment, and says nothing about that.
PIPENV_ENV := env -u VIRTUAL_ENV -u PIPENV_ACTIVE PIPENV_VENV_IN_PROJECT=1 PIPENV_IGNORE_VIRTUALENVS=1 \
	PIPENV_VERBOSITY=-1 PIPENV_NOSPIN=1 PIPENV_YES=1 PIPENV_DONT_LOAD_ENV=1
# Quiet unless it fails.
QUIETLY = log=$$(mktemp); trap 'rm -f "$$log"' EXIT; quietly() { "$$@" >"$$log" 2>&1 || { cat "$$log" >&2; exit 1; }; }

.PHONY: help demo up down test test-fast soak bench check lint types format venv lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: venv ## Watch real weather and flights go through both layers into SQL views, about two minutes
	@$(BIN)/watershed demo

up: venv ## Start Kafka, Postgres, a worker and Luigi's UI with some weather, and leave them running
	@$(BIN)/watershed up --with-weather

down: venv ## Stop what 'make up' started
	@$(BIN)/watershed down

test: venv ## Run all tests, on real Kafka and Postgres where they are installed
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-fast: venv ## Run the tests that take no more than seconds
	@$(BIN)/python -m pytest -m "not slow"

soak: venv ## Try schedules of crashes, zombies and nights against the promise until told to stop (Ctrl-C)
	@$(BIN)/watershed prove --schedules 0 --seed $${SEED:-$$(date +%s)}

bench: .venv-bench/.installed ## Measure the product and its peers on the same events (ARGS="speed --events 1000000" for less)
	@.venv-bench/bin/python -m benchmarks $(ARGS)

check: lint ## Lint, types and all tests: what CI runs
	@# The types beside the tests, which wait for servers now and then; whichever fails, the other is heard.
	@$(BIN)/mypy --no-error-summary & types=$$!; failed=0; \
	$(MAKE) test || failed=1; wait $$types || failed=1; exit $$failed

lint: venv ## Check the style and the format (ruff)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "Some files are not formatted: make format" >&2; exit 1; }

types: venv ## Check the types (mypy)
	@$(BIN)/mypy --no-error-summary

format: venv ## Format the code and mend what ruff can mend by itself
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

venv: $(VENV)/.installed ## Make or renew the virtual environment .venv (every other target does)
	@:

lock: $(PIPENV_STAMP) ## Choose new versions within the ranges of Pipfile, into Pipfile.lock
	@$(QUIETLY); quietly $(PIPENV_ENV) $(PIPENV) lock
	@# The lock names no index: the one that pip is set up for is used, wherever it is installed.
	@$(PYTHON) -c 'import json, pathlib; path = pathlib.Path("Pipfile.lock"); lock = json.loads(path.read_text()); \
	lock["_meta"]["sources"] = []; \
	[entry.pop("index", None) for part in ("default", "develop") for entry in lock[part].values()]; \
	path.write_text(json.dumps(lock, indent=4) + "\n")'
	@$(QUIETLY); quietly $(PIPENV_ENV) $(PIPENV) verify

clean: ## Remove the virtual environments, builds and caches of this folder (no data)
	rm -rf $(VENV) .venv-pipenv .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PIPENV_STAMP):
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found: install it, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@$(QUIETLY); quietly $(PYTHON) -m venv --clear .venv-pipenv; \
	quietly .venv-pipenv/bin/python -m pip install --quiet --disable-pip-version-check pipenv==$(PIPENV_VERSION)
	@touch $@

$(VENV)/.synced: Pipfile.lock | $(PIPENV_STAMP)
	@echo "Making the virtual environment $(VENV) from Pipfile.lock (once, about a minute) ..." >&2
	@$(QUIETLY); test -x $(BIN)/python || quietly $(PYTHON) -m venv $(VENV); \
	quietly $(PIPENV_ENV) $(PIPENV) sync --dev
	@touch $@

# The product at the locked versions, and what it is measured against, in an environment of their own.
.venv-bench/.installed: benchmarks/install.py setup.cfg Pipfile.lock
	@$(PYTHON) -m benchmarks.install
	@touch $@

# The project itself, editable: gives the command watershed, and lets luigi find tasks from any folder.
$(VENV)/.installed: $(VENV)/.synced setup.cfg pyproject.toml
	@$(QUIETLY); quietly $(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
