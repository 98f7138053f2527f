# make setup | demo | airflow | test | test-components | test-all | bench | lint     (make help explains)
SHELL := /bin/bash
PY := .venv/bin/python
STAMP := .venv/.stamp

.PHONY: help setup demo airflow test test-components test-all bench lint lock clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP) ## make .venv with the project and every extra (seconds when nothing changed)

$(STAMP): requirements.lock pyproject.toml tools/setup
	@tools/setup
	@touch $@

demo: setup ## the main job, end to end, on this machine
	@$(PY) -m priority demo

airflow: setup ## the service and Airflow side by side, with the DAGs of dags/; a release validation runs
	@$(PY) -m priority.airflow.start

test: setup ## lint and the test suite
	@tools/check

test-components: setup ## Airflow's own api-server, scheduler, triggerer and dag-processor beside the service (minutes)
	@.venv/bin/pytest -m components tests/provider

test-all: setup ## the same, and what takes minutes: a real Mesos, Airflow's real components, twenty years of clocks
	@PRIORITY_TEST_ALL=1 tools/check

bench: setup ## measure the engine and the service, one JSON object a line
	@$(PY) -m priority bench engine --json; engine=$$?; $(PY) -m priority bench service --json && exit $$engine

lint: setup ## style, types, layers
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/lint-imports

lock: setup ## write requirements.lock anew from pyproject.toml
	@.venv/bin/uv pip compile -q --system-certs --universal --python-version 3.11 --all-extras --no-emit-index-url --no-annotate --generate-hashes tools/requirements.in pyproject.toml -o requirements.lock

clean: ## remove what setup and tests made
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
