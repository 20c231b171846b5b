PYTHON ?= python3
ARGS ?=

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input

# Two test processes where the machine has two cores or more.
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
WORKERS := $(shell [ "$(CORES)" -gt 1 ] && echo "-n 2")

.DEFAULT_GOAL := help
.PHONY: help env demo zoo test lint format docs clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "  %-8s %s\n", $$1, $$2}'

env: $(READY) ## create or update .venv

# PyTorch goes in first and alone: what is installed after it then keeps this build.
$(READY): pyproject.toml constraints.txt tools/cure_torchvision.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt torch
	$(PIP) install -c constraints.txt -e ".[dev,docs]"
	$(BIN)/python tools/cure_torchvision.py
	@touch $@

demo: $(READY) ## run the demo (ARGS="...")
	$(BIN)/python -m benchmarks.demo $(ARGS)

zoo: $(READY) ## run the model zoo benchmark (ARGS="...")
	$(BIN)/python -m benchmarks.zoo $(ARGS)

test: $(READY) ## run the tests (ARGS="...")
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) $(ARGS)

lint: $(READY) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy muxwrap

format: $(READY) ## fix style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean: ## remove everything that was built, .venv included
	rm -rf $(VENV) site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
