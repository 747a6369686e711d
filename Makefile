# Every target installs its requirements in .venv, and prints what it downloads.

PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests
COVERED ?= tests/unit tests/contract
# integration tests mostly wait, so more of them than cores run at once
WORKERS ?= 3
.DEFAULT_GOAL := help
.PHONY: help demo up test coverage runtime setup check scenarios screenshots bench mutants adversary clean

help: ## Show this.
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST))

demo: runtime ## Show the remediation of failed GPUs on a simulated fleet.
	$(BIN)/fleetmedic demo

up: runtime ## Start the whole stack on this machine; Ctrl-C stops it.
	$(BIN)/fleetmedic up

test: setup ## Run all tests, including those with the real Prometheus and Alertmanager.
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

coverage: setup ## Measure which lines and branches the unit and contract tests run; COVERED=tests: all tests.
	$(BIN)/python -m pytest -q -n $(WORKERS) --cov --cov-report=term $(COVERED)

runtime:
	@$(PYTHON) tools/setup.py --runtime

setup: ## Create .venv and download Prometheus and Alertmanager; installs no package on the machine.
	@$(PYTHON) tools/setup.py

check: setup ## Check format, lint, types, layers, rules, language.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fleetmedic rules lint
	$(BIN)/python -m pytest -q -n 0 tests/unit/test_language.py

scenarios: setup ## Raise every alert on a simulated fleet (7 minutes), and regenerate docs/alerts-raised.md.
	PYTHONPATH=tests/scenarios $(BIN)/python -m every_alert
	PYTHONPATH=tests/scenarios $(BIN)/python -m every_alert --prometheus prometheus-3 --alertmanager alertmanager-0.33

screenshots: setup ## Take the screenshots for README and docs from a running stack (`make up`); INCIDENT=ID adds an incident.
	$(BIN)/python tools/screenshots.py http://127.0.0.1:9095 docs/pictures fleetmedic-fleet fleetmedic-remediation $(INCIDENT)

bench: setup ## Run the benchmarks (half an hour; 13 GiB of memory for a fleet of 10,000 GPUs).
	@for file in $(filter-out bench/mutants.py bench/adversary.py,$(wildcard bench/*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

mutants: setup ## Run mutation tests of the remediator's decisions (an hour).
	$(BIN)/python bench/mutants.py

adversary: setup ## Attack a separate stack for ten minutes; no healthy hardware may be acted on.
	$(BIN)/python bench/adversary.py --minutes 10

clean: ## Remove .venv and caches; prints the path of the state.
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "State and unpacked programs are kept in $${FLEETMEDIC_HOME:-$${XDG_STATE_HOME:-$$HOME/.local/state}/fleetmedic}. To remove them, delete that directory."
