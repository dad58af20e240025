# Every target does its own set-up: Python 3.11 and make are all that is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install train sweep tensorboard test lint format typecheck mutation benchmark clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed  ## create .venv with the pinned dependencies

train: $(VENV)/installed  ## train on the handwritten digits; ARGS="optimizer.lr=0.01" changes the run
	$(BIN)/multilayer train $(ARGS)

sweep: $(VENV)/installed  ## a small sweep over learning rates
	$(BIN)/multilayer train -m optimizer.lr=1e-4,1e-3,1e-2,1e-1 $(ARGS)

tensorboard: $(VENV)/installed  ## look at all runs and sweeps at http://localhost:6006
	@mkdir -p runs sweeps
	$(BIN)/tensorboard --host localhost --logdir_spec runs:runs,sweeps:sweeps $(ARGS)

test: $(VENV)/installed-dev  ## run the tests, on 2 processes
	$(BIN)/pytest $(ARGS)

lint: $(VENV)/installed-dev  ## check style, formatting and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(VENV)/installed-dev  ## mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(VENV)/installed-dev  ## check the types
	$(BIN)/mypy

mutation: $(VENV)/installed-dev  ## count the planted faults that the tests catch, some hours; FILES="src/multilayer/nn/mlp.py" for some
	$(BIN)/python scripts/mutation.py $(ARGS) $(FILES)

benchmark: $(VENV)/installed  ## measure lockstep against its peers, some minutes; ARGS="--parts all" for whole sweeps
	$(BIN)/python scripts/benchmarks/lockstep.py $(ARGS)

clean:  ## remove the environment, the caches and the builds; runs and sweeps stay
	rm -rf $(VENV) .venv-benchmark build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "multilayer needs Python 3.11 or later; found $$($(PYTHON) --version). Try: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the pinned dependencies into $(VENV): a few minutes, once."
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "Installing the tools for development into $(VENV)."
	$(INSTALL) -e '.[dev,ray,slurm]'
	@touch $@
