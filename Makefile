# make train   from an empty clone to a certificate        make test    everything that must hold
# make bench   speed beside RLlib and SB3                  make results the tables of the README, over seeds
# make soak    a long run that must leak nothing
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
STAMP ?= $(VENV)/.rl-markets-installed

.PHONY: train test lint bench results soak
.DELETE_ON_ERROR:

train: $(STAMP)
	$(BIN)/rl-markets train tune_configs/households-full-depreciation.yaml

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/rl-markets bench --output docs/results/bench.json

soak: $(STAMP)
	RL_MARKETS_SOAK_ITERATIONS=20000 $(BIN)/python -m pytest tests/test_soak.py

results: $(STAMP)
	$(BIN)/python -m rl_markets.results docs/results

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rl-markets needs Python 3.11 or newer, $(PYTHON) is %d.%d; name another with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
