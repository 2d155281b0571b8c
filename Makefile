# Homing: `make up` runs the server, `make check test` is what every change passes. Each makes its own .venv.
SHELL := /bin/sh
# `make PYTHON=python3.13 up` takes another.
PYTHON ?= $(shell scripts/python)
VENV := .venv
BIN := $(VENV)/bin
DATA ?= $(or $(HOMING_DATA),data)
PACKAGES := connectors homing identity imap mail runtime smtp storage
# Without compiled modules every process that a test starts would compile them all again.
unexport PYTHONDONTWRITEBYTECODE
# Two more than two cores have work for: tests wait as well. A file is one worker's, for the servers that it shares.
WORKERS ?= 4
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
SERVICES := $(filter-out up refresh clear-cache-view down logs,$(MAKECMDGOALS))

.PHONY: help up refresh clear-cache-view down logs check format test test-distributed test-servers test-all interop soak bench docs lock clean $(if $(filter up refresh clear-cache-view,$(firstword $(MAKECMDGOALS))),$(SERVICES))

help:            ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/run.stamp: requirements/run.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/pip install -q --disable-pip-version-check --only-binary :all: --no-binary dkimpy --require-hashes -r requirements/run.txt
	@$(BIN)/python -c "import pathlib, sysconfig; pathlib.Path(sysconfig.get_path('purelib'), 'homing-checkout.pth').write_text('$(CURDIR)\n')"
	@printf '#!/bin/sh\nexec "$(CURDIR)/$(BIN)/python" -m homing "$$@"\n' > $(BIN)/homing && chmod +x $(BIN)/homing
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements/dev.txt
	@echo "installing the tools of the checks into $(VENV) ..."
	@# forbiddenfruit (of blockbuster) and dkimpy come as source alone; they are pure Python
	@$(BIN)/pip install -q --disable-pip-version-check --only-binary :all: --no-binary forbiddenfruit,dkimpy --require-hashes -r requirements/dev.txt
	@touch $@

up: $(VENV)/run.stamp            ## install and run the server in the foreground, or the services named, a process each
	@if [ -n "$(SERVICES)" ]; then exec $(BIN)/homing serve $(SERVICES); else exec $(BIN)/homing up; fi

refresh:         ## full rebuild of the environment, then up
	@rm -rf $(VENV)
	@$(MAKE) --no-print-directory up $(SERVICES)

clear-cache-view:      ## restart the running server's services without touching its data
	@$(BIN)/homing restart $(SERVICES)

ifeq ($(filter up refresh clear-cache-view,$(firstword $(MAKECMDGOALS))),)
worker: $(VENV)/run.stamp        ## a process that sends the tasks of the asynchronous sending API; as many as are wanted
	@exec $(BIN)/homing worker
.PHONY: worker
endif

down:            ## drain and end the server that runs on this data folder
	@$(BIN)/homing down

logs:            ## follow the server's log
	@$(BIN)/homing logs --follow

check: $(VENV)/dev.stamp         ## format, lint, types, import rules, house tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(addprefix -p ,$(PACKAGES))
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q tests/house

format: $(VENV)/dev.stamp        ## let ruff format and fix what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test: $(VENV)/dev.stamp          ## the quick suite; lists what was not run
	@$(BIN)/pytest -q $(PARALLEL) -m "not slow and not interop and not crash"

test-servers: $(VENV)/dev.stamp  ## the quick suite with the two stand-ins for MongoDB (needs java, mvn, go)
	@$(BIN)/python -m tests.servers.run -- $(MAKE) --no-print-directory test

test-distributed: $(VENV)/dev.stamp  ## the same against the services as processes of their own
	@HOMING_TEST_MODE=sqlite $(BIN)/python -m tests.servers.run -- $(BIN)/pytest -q $(PARALLEL) -m "not slow" tests/integration
	@HOMING_TEST_MODE=mongo $(BIN)/python -m tests.servers.run -- $(BIN)/pytest -q $(PARALLEL) -m "not slow" tests/integration tests/interop

interop: $(VENV)/dev.stamp       ## real clients and peers against the running server
	@$(BIN)/pytest -q -m interop

test-all: $(VENV)/dev.stamp      ## everything but soak and bench
	@$(BIN)/pytest -q

soak: $(VENV)/dev.stamp          ## kills under load, of one process, of eight, and of those that send mail on; the figures go to bench/SOAK.md
	@$(BIN)/python -m bench.soak --kills 50 --write bench/SOAK.md
	@$(BIN)/python -m tests.stress.run --write bench/SOAK.md
	@$(BIN)/python -m bench.soak_distributed --write bench/SOAK.md
	@$(BIN)/python -m bench.soak_outbound --write bench/SOAK.md
	@$(BIN)/python -m bench.soak_outbound --kind sqlite --write bench/SOAK.md
	@$(BIN)/python -m bench.soak_tasks --kills 50 --write bench/SOAK.md
	@$(BIN)/python -m bench.soak_tasks --queue redis --kills 50 --write bench/SOAK.md

bench: $(VENV)/dev.stamp         ## beside Postfix + Dovecot, and distributed; the figures go to bench/RESULTS.md
	@$(BIN)/python -m bench.compare --write
	@$(BIN)/python -m bench.reading --write
	@$(BIN)/python -m bench.large --write
	@$(BIN)/python -m bench.loop_lag --write
	@$(BIN)/python -m bench.distributed --write

docs: $(VENV)/run.stamp          ## make docs/config.md and docs/rfc.md again
	@$(BIN)/python docs/generate.py

lock: $(VENV)/dev.stamp          ## resolve the dependencies anew
	@$(BIN)/pip install -q uv
	@$(BIN)/uv pip compile -q pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade -o requirements/run.txt
	@$(BIN)/uv pip compile -q pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --upgrade -o requirements/dev.txt

clean:           ## remove what was installed and cached (never the data folder)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

ifneq ($(filter up refresh clear-cache-view,$(firstword $(MAKECMDGOALS))),)
$(SERVICES):
	@:
endif
