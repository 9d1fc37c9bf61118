# Every target does its own set-up: Python 3.11 or 3.12, pip and make are all it needs.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
UV = $(BIN)/python -m runner.machine.pip_settings
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCK = $(UV) pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate $(UPGRADE)
LOCKED := adapters/llamafactory/requirements.lock adapters/llamafactory/requirements-cuda.lock \
	adapters/verl/requirements.lock adapters/verl/requirements-cuda.lock \
	eval/locks/requirements.lock eval/locks/requirements-vllm-cuda.lock \
	eval/locks/requirements-lm.lock eval/locks/requirements-lm-vllm-cuda.lock \
	eval/locks/requirements-export.lock
define newline


endef
define unit_tests_with
	$(UV) venv --quiet --clear --python $(BIN)/python $(2)
	$(UV) pip install --quiet --python $(2)/bin/python --resolution $(1) --editable '.[dev]'
	$(2)/bin/python -m pytest -n $(WORKERS) -m "not real and not browser"
endef
# On two cores a third process fills the waits of the others.
WORKERS ?= 3
BUDGET = $(BIN)/python -m tests.budget
REAL := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10

.PHONY: quickstart test test-all test-fast coverage mutation test-browser test-newest test-oldest lock docs golden bench gpu-check clean

quickstart: .venv/ready ## train the bundled model with the quickstart recipe on a CPU, and score it
	$(BIN)/recipe run quickstart

test: test-fast ## everything that CI runs: lint, types, unit tests, real runs on both backends
	$(BUDGET) "real tests" $(REAL) -m "real and not slow"

test-all: test-fast ## these with each process started as a user's is, the slow ones, and many more generated examples
	RECIPE_COLD=1 $(REAL) -m "real and not slow"
	RECIPE_THOROUGH=1 $(BIN)/python -m pytest -n $(WORKERS) -m "not real and not browser"
	RECIPE_THOROUGH=1 $(BUDGET) "slow real tests" $(REAL) -m "real and (slow or thorough)"

test-fast: .venv/dev ## lint, types and unit tests, without a backend
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BUDGET) "unit tests" $(BIN)/python -m pytest -n $(WORKERS) -m "not real and not browser" --durations=10

coverage: .venv/dev ## which lines all tests run, in child processes and in the backends' environments too
	$(BIN)/python -m tests.covered

mutation: .venv/dev ## whether the unit tests notice a wrong operator: a sample of mutants, or MUTANTS='eval.metrics.*'
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-mutation
	$(UV) pip install --quiet --python .venv-mutation/bin/python --editable '.[dev,mutation]'
	$(BIN)/python -m tests.mutants .venv-mutation/bin/mutmut $(MUTANTS)

test-browser: .venv/dev ## the report in headless Chromium, which must be installed
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-browser
	$(UV) pip install --quiet --python .venv-browser/bin/python --editable '.[dev,browser]'
	.venv-browser/bin/python -m pytest -m browser

docs: .venv/dev ## the docs site, in site/; it loads nothing from elsewhere, and a link that leads nowhere is an error
	$(UV) venv --quiet --allow-existing --python $(BIN)/python .venv-docs
	$(UV) pip install --quiet --python .venv-docs/bin/python --editable '.[docs]'
	rm -rf site
	.venv-docs/bin/python -m docs.pages site

golden: .venv/dev ## rewrite the golden plans, and the table of recipes that are made
	$(BIN)/python -m benchmarks.catalogue
	$(BIN)/python -m pytest tests/adapters/test_plans.py --golden

bench: .venv/dev ## measure what a person waits for
	$(BIN)/python -m benchmarks.cli
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.rouge
	$(BIN)/python -m benchmarks.truthfulqa_mc
	$(BIN)/python -m benchmarks.lm_eval_choices

gpu-check: .venv/dev ## our plans beside the backends' defaults: tokens/s, memory, loss; GPU='--jobs sft-lora-8b' takes some
	$(BIN)/python -m benchmarks.gpu $(GPU)

.venv/ready: pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "recipe-runner needs Python 3.11 or 3.12; give one with PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv .venv
	$(PIP) --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev: .venv/ready requirements-dev.lock
	$(PIP) --requirement requirements-dev.lock
	@touch $@

lock: .venv/ready ## remake every lock; UPGRADE=--upgrade takes the newest versions
	$(LOCK) pyproject.toml --extra build --output-file requirements.lock
	$(LOCK) pyproject.toml --extra build --extra dev --output-file requirements-dev.lock
	$(foreach name,$(LOCKED),$(LOCK) $(dir $(name))$(subst .lock,.in,$(notdir $(name))) --output-file $(name)$(newline))
	$(foreach name,requirements-vllm requirements-lm-vllm,$(LOCK) eval/locks/$(name).in --override eval/locks/requirements-vllm.overrides --output-file eval/locks/$(name).lock$(newline))

test-newest: .venv/ready ## the unit tests on the newest of everything that a user's pip would install
	$(call unit_tests_with,highest,.venv-newest)

test-oldest: .venv/ready ## and on the oldest versions that pyproject.toml allows
	$(call unit_tests_with,lowest-direct,.venv-oldest)

clean:
	rm -rf .venv .venv-newest .venv-oldest .venv-mutation .venv-browser .venv-skypilot .venv-docs site mutants runs .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .covered
