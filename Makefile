# Tokenpulse. `make help` lists the targets. Needs Python >= 3.11 and PyPI, nothing else.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# On two cores three processes end sooner than two, as many tests wait for servers.
JOBS ?= 3
MINUTES ?= 5
STRETCH ?= 6
EVENTS ?= 1000000
SEED ?=

.PHONY: help setup up test test-all test-slow test-stack test-engine chaos scenarios fuzz lint bench bench-panels bench-rules lock audit docs dashboards screenshots secrets clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/.run ## make .venv with the `tokenpulse` command in it

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tokenpulse needs Python >= 3.11; set PYTHON=/path/to/python3")'
	$(PYTHON) -m venv .venv
	@touch $@

# Stamps: a second `make` installs nothing unless a lock or pyproject.toml changed.
.venv/.run: .venv/.python requirements.lock pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/.dev: .venv/.run requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

up: .venv/.run ## run everything on this machine with simulated traffic; Ctrl-C stops all
	@$(BIN)/tokenpulse up $(ARGS)

# Else each process that a test starts compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE

PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

test: .venv/.dev ## run the tests that need only Python and PyPI, in minutes
	@$(PYTEST) -n $(JOBS) -m "not stack and not slow" $(ARGS)

test-all: test ## run also slow tests, chaos, and those of other programs (tests/provision.sh)
	@# The output of the slow tests comes at the end, so that it does not mix with that of the others.
	@log=$$(mktemp); $(MAKE) --no-print-directory test-slow >$$log 2>&1 & slow=$$!; \
	$(MAKE) --no-print-directory test-stack; stack=$$?; \
	wait $$slow; slow=$$?; cat $$log; rm $$log; exit $$((stack + slow))

test-slow: .venv/.dev ## run the slow tests that need no other programs, at a low priority
	@nice -n 5 $(BIN)/python -m pytest -m "slow and not stack" --override-ini timeout=1800 $(ARGS)

test-stack: .venv/.dev ## run chaos and the tests of other programs
	@$(PYTEST) -n 2 -m "stack and not engine" $(ARGS)

# Not in test-all: it fetches an engine and builds images, which takes minutes and needs Debian.
test-engine: .venv/.dev ## run docker-compose.yml on a container engine, as root on Debian
	@bash tests/engine/provision.sh
	@$(BIN)/python -m pytest -m engine $(ARGS)

fuzz: .venv/.dev ## count EVENTS=1000000 mutated events and recount them; SEED=n repeats a run
	@FUZZ_EVENTS=$(EVENTS) FUZZ_SEED=$(or $(SEED),0) $(BIN)/python -m pytest -s tests/streams/events/test_mutated_events.py $(ARGS)

chaos: .venv/.dev ## break everything at random for MINUTES=5, then recount; SEED=n repeats a run
	@CHAOS_MINUTES=$(MINUTES) CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -s tests/chaos/test_chaos.py $(ARGS)

scenarios: .venv/.dev ## every fault STRETCH=6 times as long: do board, Prometheus and Alertmanager agree
	@SCENARIO_STRETCH=$(STRETCH) $(BIN)/python -m pytest -s tests/stack/test_one_truth.py $(ARGS)

lint: .venv/.dev ## formatting, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: .venv/.run ## records per second of the intake, then events per second of the whole path
	@$(BIN)/python -m bench.intake
	@$(BIN)/python -m bench.mappings
	@$(BIN)/python -m bench.pipeline

bench-panels: .venv/.run ## times of all dashboard queries on a real Prometheus with a large page
	@$(BIN)/python -m bench.panels

bench-rules: .venv/.run ## times of all groups of rules on a real Prometheus with a large page
	@$(BIN)/python -m bench.rules

docs: dashboards ## write the generated documents and dashboards again
	@$(BIN)/python docs/generate.py

dashboards: .venv/.dev ## write the Grafana dashboards again, from catalogue and policy
	@$(BIN)/python -m grafana.generate

screenshots: .venv/.dev ## take the README's pictures again, from the running product
	@$(BIN)/python docs/screenshots.py $(ARGS)

lock: .venv/.dev ## resolve the dependencies again, with hashes
	$(BIN)/pip-compile -q --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-emit-trusted-host \
		--no-emit-find-links --extra local -c constraints.txt -o requirements.lock pyproject.toml
	$(BIN)/pip-compile -q --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --extra local --extra msk --extra dev -c requirements.lock \
		-o requirements-dev.lock pyproject.toml
	$(BIN)/pip-compile -q --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --build-deps-for wheel -c requirements.lock \
		-o requirements-image.lock pyproject.toml

secrets: ## make the passwords and certificates that docker-compose.yml reads; keeps what is there
	@bash deploy/make-secrets.sh

audit: .venv/.dev ## known vulnerabilities of the locked dependencies
	@$(BIN)/python .ci/audit.py

clean: ## remove the virtual environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
