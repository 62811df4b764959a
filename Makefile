# One command on a fresh machine: make demo

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
export PYTHON

.PHONY: help demo up test soak fuzz check format docs build clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    two hosts, an app, a dead host, and the app lives on (about a minute, the first time two)"
	@echo "make up      the same start; stays until Ctrl-C"
	@echo "make test    every test"
	@echo "make soak    the tests that take minutes of real time"
	@echo "make fuzz    random components and values against the engine, for FUZZ_SECONDS (300)"
	@echo "make check   format, lint, types, import rules"
	@echo "make format  mend what check says about format"
	@echo "make docs    write the generated pages anew"
	@echo "make build   the wheel, in dist/"
	@echo "make clean   remove what was built"

# What a user needs, and what a developer needs; each is installed again when pyproject.toml changes.

$(VENV)/user.stamp: pyproject.toml
	@python=$$(sh .ci/python) && echo "installing into $(VENV) with $$python" && $$python -m venv $(VENV)
	@$(PIP) install --editable '.[build]'
	@touch $@

$(VENV)/developer.stamp: pyproject.toml
	@python=$$(sh .ci/python) && echo "installing into $(VENV) with $$python" && $$python -m venv $(VENV)
	@$(PIP) install --editable '.[dev,fast]'
	@touch $@ $(VENV)/user.stamp

demo: $(VENV)/user.stamp
	@$(BIN)/trellis build examples/counter
	@$(BIN)/python examples/counter/demo.py

up: $(VENV)/user.stamp
	@$(BIN)/trellis up examples/counter --host zone=a --host zone=b

# Tests wait more than they compute: four at a time keep two cores busy.
test: $(VENV)/developer.stamp
	@$(BIN)/trellis build examples
	@$(BIN)/python -m pytest -n 4 --dist worksteal

soak: $(VENV)/developer.stamp
	@$(BIN)/python -m pytest -m slow

fuzz: $(VENV)/developer.stamp
	@FUZZ_SECONDS=$(or $(FUZZ_SECONDS),300) $(BIN)/python -m pytest tests/actors/test_fuzz.py

check: $(VENV)/developer.stamp
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/developer.stamp
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/developer.stamp
	@$(BIN)/python docs/generate.py

build: $(VENV)/user.stamp
	@$(PIP) wheel --no-deps --wheel-dir dist .
	@ls -l dist

clean:
	@rm -rf dist .trellis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find examples \( -name build -o -name .trellis -o -name __pycache__ \) -type d -prune -exec rm -rf {} +
