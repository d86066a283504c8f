# make demo and make test need only git, make and Python >= 3.11; both install into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Bytecode is written at the first import. Without it every process would compile torch and transformers anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt

.PHONY: help setup demo test test-all check format clean

help:
	@echo "make demo      real sequence -> corpus -> trained model -> report (CPU, minutes)"
	@echo "make test      every test that runs without a GPU"
	@echo "make check     format, lint, types, import contracts"
	@echo "make test-all  also the slow tests"

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"umbel needs Python >= 3.11, and $(PYTHON) is {v.major}.{v.minor}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch goes first and alone, so that nothing else chooses its version.
$(VENV)/.umbel: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) -e ".[train,tracks]"
	@touch $@

$(VENV)/.dev: $(VENV)/.umbel
	$(PIP) -e ".[dev]"
	@touch $@

setup: $(VENV)/.dev

demo: $(VENV)/.umbel
	@$(BIN)/python examples/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m "not slow and not gpu"

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest -q -m "not gpu"

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo
