# The verbs of this project. Everything lives in .venv, made with Python's own venv module.
#
#   make trace                              the lesson's graph through a real service, as a table
#   make test                               the tests
#   make install TORCH_INDEX=<wheel index>  take PyTorch from one of its own wheel indexes, say the
#                                           CPU builds; empty: whatever pip is set up to use

PYTHON ?= python3
TORCH_INDEX ?=
PYTEST_ARGS ?=
# How many processes run the tests; each takes a file at a time.
TEST_JOBS ?= 2
# Counting lines takes a fifth of the tests' time, so only the complete run does it.
COVERAGE := $(if $(REQUIRE_ALL),--cov --cov-report=term:skip-covered)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.tools-installed
IMAGE ?= gradtrace
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' service/__init__.py)
PLATFORM_TORCH := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# Constraints hold for the build backend too: older pips read the first variable there, newer ones
# the second.
PIN := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install trace run test lint bench sdk image conformance openapi docs release pins lock clean

help:  ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

install: $(STAMP)  ## Make .venv with everything pinned

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Gradtrace needs Python 3.11 or newer; name one with `make PYTHON=python3.12 ...`' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIN) $(BIN)/python -m pip install --quiet $(PLATFORM_TORCH) --editable .
	@touch $@

# What only the project's own work needs, so that a first trace does not wait for it.
$(TOOLS): $(STAMP)
	$(PIN) $(BIN)/python -m pip install --quiet $(PLATFORM_TORCH) --editable '.[dev]'
	@touch $@

trace: $(STAMP)  ## Trace the lesson's graph through a real service, print the answer as a table
	@$(BIN)/gradtrace demo

run: $(STAMP)  ## Start the service
	$(BIN)/gradtrace serve

test: $(TOOLS)  ## Run the tests
	$(BIN)/python -m pytest --numprocesses $(TEST_JOBS) --dist loadfile --no-loadscope-reorder \
	  $(COVERAGE) $(PYTEST_ARGS)

lint: $(TOOLS)  ## Check form, types and the Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

bench: $(TOOLS)  ## Print the ratios against plain PyTorch
	$(BIN)/python -m bench

conformance: $(TOOLS)  ## Hold every op against PyTorch's own sample database
	$(BIN)/python -m tests.conformance

openapi: $(STAMP)  ## Write the examples and openapi/openapi.json
	$(BIN)/python openapi/examples.py
	$(BIN)/gradtrace openapi --output openapi/openapi.json

sdk: $(TOOLS)  ## Generate the SDKs from openapi/openapi.json
	$(BIN)/python -m tests.sdk

docs: $(TOOLS)  ## Build the documentation site, with pictures made by the service
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

image:  ## Build the container image
	$$(command -v buildah >/dev/null && echo buildah build --format docker || echo docker build) \
	  --build-arg TORCH_INDEX=$(TORCH_INDEX) --build-arg VERSION=$(VERSION) --tag $(IMAGE) .

release: $(TOOLS)  ## Build and check wheel and sdist; upload nothing
	rm -rf dist
	$(PIN) $(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	@echo "dist/ is ready; uploading it is a separate, deliberate step (CONTRIBUTING.md)"

pins: $(TOOLS)  ## Write constraints.txt: what is installed now, exactly
	$(BIN)/python deploy/pins.py

lock: $(STAMP)  ## Write deploy/requirements.lock: what the image takes, with hashes
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet 'pip-tools==7.6.2'
	build/lock/bin/pip-compile --quiet --generate-hashes --strip-extras \
	  --unsafe-package torch --no-header --no-emit-options --no-emit-index-url \
	  --no-emit-find-links --constraint constraints.txt \
	  --output-file deploy/requirements.lock pyproject.toml

clean:  ## Remove what make made, the .venv too
	rm -rf $(VENV) build dist site sdk artifacts .coverage .pytest_cache .hypothesis .mypy_cache .ruff_cache
