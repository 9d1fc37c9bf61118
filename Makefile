# Every target does its own set-up: Python 3.11 or 3.12, pip and make are all it needs.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
REAL := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=10

.PHONY: quickstart test test-all test-fast test-browser golden bench clean

quickstart: .venv/ready ## train the bundled model with the quickstart recipe on a CPU, and score it
	$(BIN)/recipe run quickstart

test: test-fast ## everything that CI runs: lint, types, unit tests, real runs on both backends
	$(REAL) -m "real and not slow"

test-all: test ## and the slow real runs
	$(REAL) -m "real and slow"

test-fast: .venv/dev ## lint, types and unit tests, without a backend
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not real and not browser" --cov --cov-report=term:skip-covered

test-browser: .venv/dev ## the report in headless Chromium, which must be installed
	$(BIN)/python -m pytest -m browser

golden: .venv/dev ## rewrite the golden plans
	$(BIN)/python -m pytest tests/adapters/test_plans.py --golden

bench: .venv/dev ## measure what a person waits for
	$(BIN)/python -m benchmarks.cli
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.rouge
	$(BIN)/python -m benchmarks.truthfulqa_mc

.venv/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "recipe-runner needs Python 3.11 or 3.12; give one with PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv runs .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
