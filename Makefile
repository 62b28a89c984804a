# `make demo` and `make test` set up all they need on a machine with Python 3.11 or newer and PyPI.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test setup clean

demo: $(VENV)/.demo
	$(BIN)/python -m jobs.prepare_data --output data/sample
	$(BIN)/python -m jobs.pipeline --images data/sample/images \
		--captions data/sample/captions_train.json \
		--validation-captions data/sample/captions_validation.json \
		--test-captions data/sample/captions_test.json \
		--db data/sample.db --backbone auto \
		--query "orange juice" --query "two dogs" --query "a boat on the lake" \
		--query "pizza on a table" --query "a yellow bus in the street" \
		--query "elephants in the grass" --query "snow -person" --query "a clock on a desk"

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

setup: $(VENV)/.test

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

# An install brings the dependencies alone; jobs/ and lib/ run from the checkout.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e ".[packaged]"
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -e ".[packaged,dev]"
	touch $@

clean:
	rm -rf $(VENV) data
