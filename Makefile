# Two commands do all the set-up: `make run` (a bench and its report) and `make test`. `make check` is what a commit needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What one trial may train for. In FLOPs, so that everybody gets the same numbers.
BUDGET ?= 7TFLOP
PROMPTS ?= 80
OUT ?= runs/first
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: run test slow gate bench lint check format clean

run: $(VENV)/.ready
	$(BIN)/python -m harness run --recipes core --budget $(BUDGET) --eval-prompts $(PROMPTS) --out $(OUT)
	@echo "The report: $(OUT)/report.md, $(OUT)/report.html, $(OUT)/report.json"

# Two files of tests at a time, each on one core.
test: $(VENV)/.ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(VENV)/.ready-test
	$(BIN)/python -m pytest -m slow

# The project's own gate: a bench of a minute or two against a committed baseline.
gate: $(VENV)/.ready
	$(BIN)/python -m harness run --recipes sft,dpo-beta0.1 --budget 1TFLOP --batch-pairs 4 --eval-prompts 60 --max-new-tokens 32 --judge rule:gold --dtype float32 --out runs/gate
	$(BIN)/python -m harness gate runs/gate --baseline tests/regression/baseline.json --rules tests/regression/gate.toml --junit runs/gate/gate.xml --markdown runs/gate/gate.md

# Beside TRL and transformers, on a quiet machine: some two hours.
bench: $(VENV)/.ready-bench
	$(BIN)/python -m benchmarks

lint: $(VENV)/.ready-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

format: $(VENV)/.ready-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready
	$(PIP) -e '.[test]'
	touch $@

$(VENV)/.ready-bench: $(VENV)/.ready
	$(PIP) -e '.[bench]'
	touch $@
