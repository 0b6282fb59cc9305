# Two commands do everything on a machine with Python 3.11 to 3.13 and make:
#   make demo [ONCE=1] [JSON=1]    and    make test

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= $(shell .ci/pythons | head -n 1 | cut -d ' ' -f 2-)
BIN := .venv/bin
READY := .venv/.ready
PATHS := ducklake techstore producers consumers batcher stack lake benchmarks tests .ci/sqlfluff
SQL := $(addprefix dbt_techstore/,models macros tests) dbt_ducklake

.PHONY: help demo test e2e-init check check-pythons lint soak sabotage screenshots bench lock audit sbom clean install compose-demo compose-down test-compose

help:
	@echo "make demo [ONCE=1] [JSON=1] [LIVE_APIS=1]  the whole pipeline on real services; ONCE=1 stops after one pass"
	@echo "make test                    all tests: the embedded stack, then containers"
	@echo "make e2e-init                own data: from an installed wheel to tested tables in PostgreSQL"
	@echo "make check                   lint, types and unit tests"
	@echo "make check-pythons           unit tests on every other Python from 3.11 to 3.13 that is installed"
	@echo "make soak MINUTES=60         long test: random kills under load"
	@echo "make sabotage                mutation tests: each deliberate break must fail a test"
	@echo "make screenshots             pictures of the page over the demo's data, in docs/images (needs chromium)"
	@echo "make compose-demo            everything in containers: docker compose up"
	@echo "make compose-down            stop the containers, delete their data and the image"
	@echo "make test-compose            the container tests only: the compose file from up to down"
	@echo "make lock                    resolve requirements.lock again"
	@echo "make audit                   look the image's locked packages up among known vulnerabilities"
	@echo "make sbom                    sbom.json: what the image is made of, in CycloneDX's format"
	@echo "make clean                   stop the stack, delete data and .venv"

# $(call install,FOLDER,PYTHON): a virtual environment of the locked packages; made anew where the
# one that is there is another Python's, as the two would be mixed
define install
	@echo "installing into $(1) with $(2) ..." >&2
	@started=$$(date +%s%N); \
	own=$$("$(2)" -c 'import os, sys; print(os.path.realpath(sys.executable))') && \
	if [ "$$(realpath -q $(1)/bin/python)" = "$$own" ]; then clear=; else clear=--clear; fi && \
	"$(2)" -m venv $$clear $(1) >&2 && \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock >&2 && \
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . >&2 && \
	echo $$(( ($$(date +%s%N) - started) / 1000000 )) > $(1)/.install-milliseconds && touch $(1)/.ready
endef

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.13 with venv is needed (on Debian: apt install python3-venv); or say which: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(call install,.venv,$(PYTHON))

.venv-%/.ready: requirements.lock pyproject.toml
	$(call install,.venv-$*,$(shell .ci/pythons | sed -n 's/^$* //p'))

install: $(READY)
	@:

demo:
	@before=$$(cat .venv/.install-milliseconds 2>/dev/null; stat -c %Y $(READY) 2>/dev/null); \
	$(MAKE) --no-print-directory install && \
	after=$$(cat .venv/.install-milliseconds 2>/dev/null; stat -c %Y $(READY) 2>/dev/null); \
	if [ "$$before" != "$$after" ]; then \
		export DUCKLAKE_INSTALL_SECONDS=$$(awk '{print $$1 / 1000}' .venv/.install-milliseconds); fi; \
	exec $(BIN)/ducklake demo $(if $(ONCE),--once) $(if $(JSON),--json) $(if $(LIVE_APIS),--live-apis)

test: check
	@$(BIN)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder --durations 30 tests/integration tests/crash tests/e2e
	@$(BIN)/python -m tests.compose

e2e-init: $(READY)
	@$(BIN)/pytest -q tests/e2e/test_init.py

check: $(READY) lint
	@$(BIN)/pytest -q -n 2 --dist loadfile tests/unit

check-pythons: $(READY)
	@own=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); ran=; absent=; \
	for version in 3.11 3.12 3.13; do \
		if [ $$version = $$own ]; then continue; fi; \
		if ! .ci/pythons | grep -q "^$$version "; then absent="$$absent $$version"; continue; fi; \
		$(MAKE) --no-print-directory .venv-$$version/.ready && \
		.venv-$$version/bin/pytest -q -n 2 --dist loadfile tests/unit || { echo "unit tests failed on Python $$version" >&2; exit 1; }; \
		ran="$$ran $$(.venv-$$version/bin/python -c 'import platform; print(platform.python_version())')"; \
	done; \
	echo "unit tests passed on Python:$${ran:- none but $$own, see make check}$${absent:+; not on this machine:$$absent}"

soak: $(READY)
	@DUCKLAKE_POWER_STATES=0 $(BIN)/pytest -q tests/crash/test_power_loss.py
	@DUCKLAKE_EXAMPLES=200 $(BIN)/pytest -q tests/crash/test_state_machine.py
	@LEDGER_FLUSHES=1000000 $(BIN)/pytest -q tests/unit/test_ledger_joins.py -k million
	@STORIES=100 $(BIN)/pytest -q tests/integration/test_stories.py
	@MODEL_CHANGES=1000 CYCLE_KILLS=100 $(BIN)/pytest -q tests/integration/test_incremental_models.py \
		tests/integration/test_killed_cycles.py
	@DUCKLAKE_SOURCE_KILLS=100 $(BIN)/pytest -q tests/integration/test_random_kills.py
	@DUCKLAKE_SOAK_MINUTES=$(or $(MINUTES),60) $(BIN)/pytest -q -s tests/crash/soak.py

sabotage: $(READY)
	@$(BIN)/python -m tests.crash.sabotage

lint: $(READY)
	@$(BIN)/ruff check $(PATHS)
	@$(BIN)/black --quiet --check $(PATHS) || { echo "run: $(BIN)/black $(PATHS)" >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/sqlfluff lint --nocolor --disable-progress-bar --processes 1 $(SQL) >&2

screenshots: $(READY)
	@$(BIN)/python -m tests.e2e.screenshots

bench: $(READY)
	@test -n "$(NAME)" || { echo "which? make bench NAME={$$(cd benchmarks && ls *.py | grep -v -e __init__ -e broker -e postgres -e shop_lake | sed 's/\.py//' | paste -sd,)}" >&2; exit 1; }
	@if [ -n "$(SPARK)" ]; then $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r benchmarks/requirements-spark.lock >&2; fi
	@$(BIN)/python -m benchmarks.$(NAME)

lock: $(READY)
	@$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install --quiet uv
	@.venv/lock/bin/uv pip compile pyproject.toml --extra stack --extra dev --extra live --extra dlt --extra dashboard --extra lineage --extra iceberg --extra ducklake-format --extra dagster --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras \
		--no-header --no-annotate --quiet --output-file requirements.lock
	@.venv/lock/bin/uv pip compile pyproject.toml --extra live --extra api --extra dlt --extra dashboard --extra lineage --extra iceberg --extra ducklake-format --extra dagster --constraints requirements.lock \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras \
		--no-header --no-annotate --quiet --output-file docker/requirements.lock

# $(call tool,PROGRAM,REQUIREMENT): a program in an environment of its own
define tool
	@test -x .venv/$(1)/bin/$(1) || { $(PYTHON) -m venv .venv/$(1) && .venv/$(1)/bin/pip install --quiet --disable-pip-version-check $(2); }
endef

audit: $(READY)
	$(call tool,pip-audit,pip-audit==2.10.1)
	@.venv/pip-audit/bin/pip-audit --disable-pip --require-hashes --strict --requirement docker/requirements.lock

sbom: $(READY)
	$(call tool,cyclonedx-py,cyclonedx-bom==7.3.0)
	@.venv/cyclonedx-py/bin/cyclonedx-py requirements docker/requirements.lock --output-reproducible --of JSON --output-file sbom.json
	@echo "sbom.json: $$($(BIN)/python -c 'import json; print(len(json.load(open("sbom.json"))["components"]))') packages"

clean:
	@test ! -x $(BIN)/ducklake || $(BIN)/ducklake reset --yes
	@rm -rf .venv .venv-3.*

COMPOSE = $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

compose-demo:
	@$(COMPOSE) build init && $(COMPOSE) up --detach
	@echo "look: $(COMPOSE) ps, $(COMPOSE) exec batch ducklake report"

compose-down:
	@$(COMPOSE) --profile kafka-ui --profile dagster --profile observability down --volumes --remove-orphans
	@own=$$(sed -n 's/^DUCKLAKE_IMAGE=//p' .env 2>/dev/null); own=$${DUCKLAKE_IMAGE:-$${own:-ducklake-stream:local}}; \
	docker image rm --force "$$own" >/dev/null 2>&1 || true
	@docker image prune --force --filter label=org.opencontainers.image.title=ducklake-stream >/dev/null

test-compose: $(READY)
	@$(BIN)/python -m tests.compose
