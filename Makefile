.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# A folder (or page) of wheels to prefer, such as CPU builds of torch. It may be unset.
PIP_FIND_LINKS ?= $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null)
# A file's tests stay together, since they share servers and data sets.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile
FIND_LINKS = $(if $(PIP_FIND_LINKS),$(addprefix --find-links ,$(PIP_FIND_LINKS)))

.PHONY: help setup run demo up down status example-data test test-fast lint types imports check bench studies soak lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv with every dependency at its locked version

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv || echo "uv is not to be had: using pip"
	@if [ -x $(BIN)/uv ]; then \
	  $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(FIND_LINKS) -c constraints.txt -e '.[dev,s3,text,postgres]'; \
	else \
	  $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,s3,text,postgres]'; \
	fi
	@touch $@

run: setup example-data ## the main job on real data: from images to a champion
	$(BIN)/potstill run

demo: setup ## the whole story in a few minutes: champions, a damaged data version, a poor student, a rollback
	$(BIN)/potstill demo

example-data: setup ## build the example data registry under var/
	$(BIN)/potstill example-data

up: setup ## start the local Prefect and MLflow servers
	$(BIN)/potstill up

down: setup ## stop them
	$(BIN)/potstill down

status: setup ## say what runs and where
	$(BIN)/potstill status

test: setup ## every test but the long ones (about 20 minutes on 2 cores)
	$(BIN)/python -m pytest $(PARALLEL) -m "not soak and not bench and not study"

test-fast: setup ## the fast tier: no servers, no training (under 3 minutes)
	$(BIN)/python -m pytest $(PARALLEL) -m "not soak and not bench and not study and not slow and not service"

lint: setup ## ruff, format included
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## mypy --strict
	$(BIN)/mypy

imports: setup ## the import rules
	$(BIN)/lint-imports

check: lint types imports test ## everything the checks run

bench: setup ## measured claims, as ratios side by side in one run
	$(BIN)/python -m pytest -m bench tests/benchmarks -s

studies: setup ## the experiments behind docs/results.md (hours)
	$(BIN)/python -m pytest -m study tests/studies -s

soak: setup ## the long versions of the crash tests
	$(BIN)/python -m pytest -m soak -s

lock: ## resolve every dependency again into constraints.txt
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile --quiet --all-extras --no-annotate --no-emit-index-url --no-header $(FIND_LINKS) pyproject.toml \
	  | sed -E 's/^(torch==[0-9.]+)\+.*/\1/' > constraints.new
	{ echo "# Every dependency at one version, for all extras. Made by 'make lock'; install with -c."; cat constraints.new; } > constraints.txt
	rm constraints.new

clean: ## remove the environment and tools' caches (not var/)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
