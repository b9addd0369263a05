# Computility: every target sets up what it needs first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo up down test unit fuzz mutants crds schemas chart-docs images docs check fmt clean

BIN := .venv/bin
STAMP := .venv/.stamp
# PACKAGES holds the product; SOURCES everything that is checked.
PACKAGES := $(wildcard common scheduler inference finetune jobs batches billing control operators)
SOURCES := $(PACKAGES) $(wildcard tests bench tools)
# MODEL=<path or hub name> makes demo and up serve another model; PYTEST_ARGS adds to the test run.
MODEL ?=
PYTEST_ARGS ?=
# How long `make fuzz` takes for each parser.
SECONDS := 600
# What `make mutants` draws: how many, by which seed, and of which packages (all three unless told).
SAMPLE := 200
SEED := 1
ONLY :=
MUTANTS_ARGS ?=
# Which images `make images` builds.
IMAGES := cpu
# Without an accelerator the tests that need one are left out.
HAS_GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo yes)
MARKS := $(if $(HAS_GPU),,-m "not gpu")
PYTEST = $(BIN)/python -m pytest $(MARKS) --durations=15 --durations-min=0.5
# Unit tests share nothing, so two processes run them; the others start servers and engines, one after the other.
UNIT := tests/unit
UNIT_TESTS = $(PYTEST) -p xdist -n 2 --dist loadfile $(UNIT) $(PYTEST_ARGS)

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt tools/setup.sh tools/engine_requirements.py
	@bash tools/setup.sh

setup: $(STAMP) ## make .venv with everything that is needed here

demo: $(STAMP) ## play the whole story on this machine, then tear down (MODEL=<path or hub name>)
	@$(BIN)/computility demo $(if $(MODEL),--model "$(MODEL)")

up: $(STAMP) ## start Computility and stay up; Ctrl-C stops it (MODEL=<path or hub name>)
	@$(BIN)/computility up $(if $(MODEL),--model "$(MODEL)")

down: $(STAMP) ## stop whatever a killed `up` left
	@$(BIN)/computility down

test: $(STAMP) ## run all tests (PYTEST_ARGS="-k name" for some)
	@status=0; $(UNIT_TESTS) || [ $$? = 5 ] || status=1; \
	$(PYTEST) tests --ignore=tests/unit $(PYTEST_ARGS) || [ $$? = 5 ] || status=1; exit $$status

unit: $(STAMP) ## run the unit tests alone, in two processes (UNIT=tests/unit/scheduler for some)
	@$(UNIT_TESTS)

fuzz: $(STAMP) ## fuzz every parser, one after the other (SECONDS=600 for each)
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install -q -c constraints.txt -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz all --seconds $(SECONDS)

mutants: $(STAMP) ## break the product in small ways and count what unit tests notice (SAMPLE=200 SEED=1 ONLY=…)
	@$(BIN)/python -m tools.mutants --sample $(SAMPLE) --seed $(SEED) $(ONLY:%=--only %) $(MUTANTS_ARGS)

crds: $(STAMP) ## make the Kubernetes definitions in the chart from common/resources
	@$(BIN)/python -m operators.crds

schemas: $(STAMP) ## write what the command line reads of kinds and settings without loading them
	@$(BIN)/python -m control.console.documents.kind_schemas
	@$(BIN)/python -m control.cli.asking.misspelt

check: $(STAMP) ## lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports

fmt: $(STAMP) ## format and fix what can be fixed by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

chart-docs: $(STAMP) ## write the schema, table and list of images of the Helm chart
	@$(BIN)/python -m tools.chart

images: ## build the images with docker, podman or buildah (IMAGES="cpu cuda"; see deploy/images/build.sh)
	@bash deploy/images/build.sh $(IMAGES)

docs: $(STAMP) ## build the site of documentation into site/ (no network is used)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo "open site/index.html, or with its search: $(BIN)/python -m http.server -d site"

clean: ## remove .venv, caches and build outputs (not COMPUTILITY_HOME)
	rm -rf .venv build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
