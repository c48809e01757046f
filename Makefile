# .ci/setup makes the environment; everything here runs inside it.
VENV ?= .venv
UV ?= $(VENV)/bin/uv
export VENV
# Left over from another environment, these would let its packages in.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

.PHONY: help setup run test test-all check bench bench-peers chaos soak docs site up down logs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## make .venv from requirements.lock; PYTHON=... chooses the Python
	@.ci/setup

run: setup ## start the stream; ARGS="..." are options of `sightstream run`
	@$(VENV)/bin/sightstream run $(ARGS)

test: check ## the checks, then the tests that are not slow, on two cores
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

test-all: check ## the checks, then all tests, one after the other
	$(VENV)/bin/python -m pytest $(ARGS)

check: setup ## lint, format, types and the imports that packages may make
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: setup ## measure speed; ARGS="..." are options of the benchmarks
	@$(VENV)/bin/python -m benchmarks $(ARGS)

bench-peers: setup ## measure what else one would run beside it; ARGS="--only by-hand,beam --rounds 3"
	@$(VENV)/bin/python -m benchmarks.peers $(ARGS)

chaos: setup ## send images while faults happen; ARGS="--seed 1 --minutes 10 --source both"
	@$(VENV)/bin/python -m tests.chaos $(ARGS)

soak: setup ## a steady flow for two hours, and whether anything grows; ARGS="--minutes 10 --out DIR"
	@$(VENV)/bin/python -m tests.soak $(ARGS)

docs: setup ## write docs/metrics.md and Grafana's dashboards anew, from the code
	@$(VENV)/bin/python -m streaming.observe.docs
	@$(VENV)/bin/python docker/grafana/build.py

site: setup ## build the documentation as a site, build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

up: docker/secrets/grafana ## start all services with docker compose; ARGS="--profile demo" sends images
	SIGHTSTREAM_UID=$$(id -u) docker compose $(ARGS) up --build --detach
	@echo "Grafana: http://127.0.0.1:3000, user admin, password in docker/secrets/grafana"

down: ## stop all services; what they hold stays in its volumes
	SIGHTSTREAM_UID=$$(id -u) docker compose --profile '*' down

logs: ## follow what the services say; ARGS=stream is one of them
	SIGHTSTREAM_UID=$$(id -u) docker compose logs --follow --tail 100 $(ARGS)

docker/secrets/grafana:
	@mkdir -p $(@D)
	@(umask 077 && head -c 24 /dev/urandom | base64 > $@)

lock: setup ## write requirements.lock anew; ARGS=--upgrade takes newer versions
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate pyproject.toml --all-extras --group dev -o requirements.lock $(ARGS)

clean: ## remove .venv and caches; data/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
