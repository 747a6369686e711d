# Every target sets up what it needs in .venv, and says what it is doing and downloading.

PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests
# integration tests mostly wait for intervals to pass, so more of them than cores go at once
WORKERS ?= 3
.DEFAULT_GOAL := help
.PHONY: help demo up test setup check scenarios screenshots bench mutants adversary clean

help: ## Show this.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST))

demo: setup ## Watch a sick GPU being found, its job moved, the GPU repaired and re-admitted.
	$(BIN)/fleetmedic demo

up: setup ## Start the whole stack on this machine; Ctrl-C stops it.
	$(BIN)/fleetmedic up

test: setup ## Run all tests, the real Prometheus and Alertmanager included.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

setup: ## Make .venv and fetch Prometheus and Alertmanager; nothing is installed on the machine.
	@$(PYTHON) tools/setup.py

check: setup ## Format, lint, types, layers, rules.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fleetmedic rules lint

scenarios: setup ## Raise every alert on a simulated fleet (7 minutes), and write docs/alerts-raised.md anew.
	PYTHONPATH=tests/scenarios $(BIN)/python -m every_alert
	PYTHONPATH=tests/scenarios $(BIN)/python -m every_alert --prometheus prometheus-3 --alertmanager alertmanager-0.33

screenshots: setup ## Take the pictures of README and docs of a stack that runs (`make up`).
	$(BIN)/python tools/screenshots.py http://127.0.0.1:9095 docs/pictures fleetmedic-fleet fleetmedic-remediation

bench: setup ## Measure; takes half an hour, and 13 GiB for a fleet of 10,000 GPUs.
	@for file in $(filter-out bench/mutants.py bench/adversary.py,$(wildcard bench/*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

mutants: setup ## Change the remediator's decisions in a thousand places; tests must notice (an hour).
	$(BIN)/python bench/mutants.py

adversary: setup ## Attack a stack of its own for ten minutes; nothing healthy may be touched.
	$(BIN)/python bench/adversary.py --minutes 10

clean: ## Remove .venv and caches; says where state lies.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "State and the unpacked programs are kept in $${FLEETMEDIC_HOME:-$${XDG_STATE_HOME:-$$HOME/.local/state}/fleetmedic}; remove that folder to forget them."
