PYTHON ?= python3
ARGS ?=

VENV := .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
TOOLS := build/tools
PIP := python -m pip -qq --disable-pip-version-check --no-input

# Two test processes where the machine has two cores or more.
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
WORKERS := $(shell [ "$(CORES)" -gt 1 ] && echo "-n 2")

.DEFAULT_GOAL := help
.PHONY: help env demo zoo fuzz test coverage refusals lint format docs dist extras clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "  %-9s %s\n", $$1, $$2}'

env: $(READY) ## create or update .venv

# PyTorch goes in first and alone: what is installed after it then keeps this build.
$(READY): pyproject.toml constraints.txt tools/cure_torchvision.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) install -c constraints.txt torch
	$(BIN)/$(PIP) install -c constraints.txt -e ".[dev,docs]"
	$(BIN)/python tools/cure_torchvision.py
	@touch $@

demo: $(READY) ## run the demo (ARGS="...")
	$(BIN)/python -m benchmarks.demo $(ARGS)

zoo: $(READY) ## run the model zoo benchmark (ARGS="...")
	$(BIN)/python -m benchmarks.zoo $(ARGS)

fuzz: $(READY) ## wrap random models for an hour, and write what was found into build/fuzz.json (ARGS="...")
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fuzz $(ARGS)

test: $(READY) ## run the tests (ARGS="...")
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) $(ARGS)

# A target of its own: measuring takes about two thirds more time than the tests themselves.
coverage: $(READY) ## run the tests and measure coverage by lines and branches (ARGS="...")
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term $(ARGS)

# The test of the page itself waits until the page is there.
refusals: $(READY) ## run the tests and write the page of refusals from the errors that they meet
	rm -rf build/refusals
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS) --ignore=tests/test_refusals.py --refusals build/refusals
	$(BIN)/python tools/refusals.py build/refusals

lint: $(READY) ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy muxwrap

format: $(READY) ## fix style and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY) ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Needs nothing from .venv: the tools have an environment of their own, and so has the unpacked sdist, which `make test`
# there builds. ARGS reaches those tests. At the end the wheel takes the place of the sdist's code and is run.
dist: ## build wheel and sdist, check both, run the tests of the unpacked sdist in a new environment
	rm -rf dist $(TOOLS)
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/$(PIP) install -c constraints.txt build check-wheel-contents twine
	$(TOOLS)/bin/python -m build
	$(TOOLS)/bin/python -m twine check --strict dist/*
	$(TOOLS)/bin/check-wheel-contents dist/*.whl
	@unset PYTHONPATH VIRTUAL_ENV; folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	tar -xzf dist/*.tar.gz -C "$$folder" --strip-components=1 && \
	$(MAKE) -C "$$folder" test && \
	"$$folder/$(BIN)"/$(PIP) install --no-deps --force-reinstall dist/*.whl && \
	(cd "$$folder/docs" && ../$(BIN)/muxwrap list) && \
	ls -sh dist

extras: ## install the wheel of `make dist` with each extra alone, and use what the extra is for (ARGS="--only serve")
	@unset PYTHONPATH; $(PYTHON) tools/try_extras.py dist/*.whl $(ARGS)

clean: ## remove everything that was built, .venv included
	rm -rf $(VENV) site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
