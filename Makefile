# make train   from an empty clone to a certificate        make test    everything that must hold
# make bench   speed beside RLlib and SB3                  make soak    a long run that must leak nothing
#      bench-accuracy   time to 1 % of the answer               bench-jax   beside a compiled JAX program
#      bench-pricing    the pricing market and its DQN alone
# make results the README's table and docs/results,        make results-quick  one seed of all of it, half an hour
#              over seeds: hours; what is finished is kept
# make mutants that no certificate can be fooled: every mutant of every shipped experiment, an hour
# make attack  odd files, markets, policies, logs and kills by the thousand: none may get through
# make same-bytes    that a change changed nothing: records what every experiment leaves behind
VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
STAMP ?= $(VENV)/.rl-markets-installed

.PHONY: train test lint mutants attack bench bench-accuracy bench-pricing bench-jax results results-quick same-bytes soak
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
	$(BIN)/python -m benchmarks.speed --output docs/results/bench.json

bench-accuracy: $(STAMP)
	$(BIN)/python -m benchmarks.speed --only accuracy --output docs/results/bench-accuracy.json

bench-pricing: $(STAMP)
	$(BIN)/python -m benchmarks.speed --only pricing_alone --only pricing_dqn --output docs/results/bench-pricing.json

bench-jax: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check 'jax>=0.5'
	$(BIN)/python -m benchmarks.speed --only vectorised --output docs/results/bench-jax.json

soak: $(STAMP)
	RL_MARKETS_SOAK_ITERATIONS=20000 $(BIN)/python -m pytest tests/service/training/test_soak.py

mutants: $(STAMP)
	for file in tune_configs/households-full-depreciation.yaml tune_configs/households-rbc.yaml tune_configs/krusell-smith*.yaml \
	  tune_configs/fiscal*.yaml tune_configs/pricing-*.yaml; do \
	  $(BIN)/rl-markets check --certificate $$file || exit 1; done

attack: $(STAMP)
	$(BIN)/python -m tests.attack

same-bytes: $(STAMP)
	mkdir -p runs
	$(BIN)/python benchmarks/same_bytes.py record runs/same-bytes-$$(git rev-parse --short HEAD).json

results: $(STAMP)
	$(BIN)/python -m benchmarks.results docs/results
	$(BIN)/python -m benchmarks.results.travel docs/results

results-quick: $(STAMP)
	$(BIN)/python -m benchmarks.results runs/results-quick --quick

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rl-markets needs Python 3.11 or newer, $(PYTHON) is %d.%d; name another with make PYTHON=..." % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
