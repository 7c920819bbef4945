# Every command does its own set-up and can be repeated: `make run` on a fresh clone needs only
# Python >= 3.10, make and git. PYTHON=python3.12 chooses another interpreter for the environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
EXTRAS ?= cpu,data,s3,pipeline,kubernetes,figures,serve,onnx,dev
CONFIG ?= configs/demo.yaml
TARGET ?= cpu
IMAGE ?= llara
KUBERNETES_ENV ?= deploy/kubernetes.env
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' llara_core/__init__.py)
LLARA_LOCAL ?= $(CURDIR)/.local
READY := $(VENV)/.ready
# The default tests: a worker per core, at most four, and the tests of a file stay together.
WORKERS ?= -n auto --maxprocesses=4 --dist loadfile
# One rule at a time: set-up, stack and run depend on each other's files.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help run scifact evaluate test test-slow lint types format fuzz setup stack stack-kubernetes image image-push clean clean-all zenml-ui mlflow-ui constraints bench bench-gain bench-gate walk docs

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup  ## the main job: from the Python code in this environment to a registered retriever
	@$(BIN)/python -m pipelines training --config $(CONFIG) $(ARGS)

scifact: setup  ## the same on SciFact: make scifact DATA=/path/to/scifact (a BEIR folder)
	@test -n "$(or $(DATA),$(LLARA_SCIFACT))" || { echo "make: name the BEIR folder: make scifact DATA=path/to/scifact" >&2; exit 2; }
	@LLARA_SCIFACT="$(or $(DATA),$(LLARA_SCIFACT))" $(BIN)/python -m pipelines training --config configs/scifact.yaml $(ARGS)

evaluate: setup  ## judge registered versions: make evaluate CONFIG=path/to.yaml (default: the champion on pycode)
	@$(BIN)/python -m pipelines evaluation --config $(if $(filter file,$(origin CONFIG)),configs/evaluation.yaml,$(CONFIG)) $(ARGS)

test: setup lint types  ## lint, types, import contracts and the default tests (about a quarter of an hour on two cores)
	@echo "make: tests"
	@$(BIN)/python -m pytest -m "not slow and not gpu" $(WORKERS) $(ARGS)

test-slow: setup  ## the tests that take minutes each
	@$(BIN)/python -m pytest -m "slow" $(ARGS)

fuzz: setup  ## coverage-guided fuzzing of every parser: make fuzz SECONDS=60 (each)
	@LLARA_FUZZ_SECONDS=$(or $(SECONDS),60) $(BIN)/python -m pytest -m "slow" tests/fuzz $(ARGS)

lint: setup  ## style, formatting and import contracts
	@echo "make: lint"
	@$(BIN)/ruff check --no-cache .
	@$(BIN)/ruff format --no-cache --check .
	@$(BIN)/lint-imports --no-logo

types: setup  ## mypy --strict on llara_core
	@echo "make: types"
	@$(BIN)/mypy

format: setup  ## mend style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

setup: $(READY)  ## the virtual environment with every version pinned

# The stamp is written last, so an interrupted installation is taken up again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "make: $(PYTHON) is not Python 3.10 or newer ($$($(PYTHON) --version 2>&1)); name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@test -x $(BIN)/python || { echo "make: creating the virtual environment $(VENV) with $$($(PYTHON) --version)"; $(PYTHON) -m venv $(VENV); }
	@echo "make: installing the pinned dependencies (a few minutes the first time)"
	@$(PIP) install -q -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(READY)

bench: setup  ## measure against peers, and write docs/results/
	@$(BIN)/python benchmarks/exact_search.py $(ARGS)
	@$(BIN)/python benchmarks/metrics.py
	@$(BIN)/python benchmarks/bm25.py
	@$(BIN)/python benchmarks/encoding.py
	@$(BIN)/python benchmarks/growth.py
	@$(BIN)/python benchmarks/mining.py
	@$(BIN)/python benchmarks/contrastive_step.py
	@$(BIN)/python benchmarks/adaptation_step.py
	@$(BIN)/python benchmarks/padding.py
	@$(BIN)/python benchmarks/plan_accuracy.py
	@$(BIN)/python benchmarks/recipe_plans.py
	@$(BIN)/python benchmarks/evaluation_memory.py
	@$(BIN)/python benchmarks/duplicates.py
	@$(BIN)/python benchmarks/leaks.py
	@$(BIN)/python benchmarks/gate.py
	@$(BIN)/python benchmarks/serving.py
	@OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scale.py

bench-gate: setup  ## does the promotion gate decide rightly? planted challengers, five minutes
	@$(BIN)/python benchmarks/gate.py $(ARGS)

bench-gain: setup  ## does adaptation pay? an hour or two; goes on where it was: make bench-gain ARGS="--data path/to/scifact --wikipedia articles.jsonl.gz"
	@$(BIN)/python benchmarks/adaptation_gain.py --parallel $(ARGS)

walk: setup  ## from the first training to a rollback, as docs/guides/fresh-walk.md shows it; half an hour
	@$(BIN)/python tools/walk.py $(ARGS)

docs: setup  ## write the figures of finished runs (.local/reports) into README.md and docs/
	@$(BIN)/python benchmarks/results_table.py $(ARGS)

stack: setup  ## register the stack llara-local and write .local/env (make run does it too)
	@$(BIN)/python -m pipelines stack

stack-kubernetes: setup  ## secrets and stack of a cluster, from deploy/kubernetes.env (docs/kubernetes.md)
	@$(BIN)/python -m pipelines.kubernetes_stack --env $(KUBERNETES_ENV)

image:  ## build an image where Docker is: make image TARGET=cpu IMAGE=registry.example.com/team/llara (or TARGET=cuda)
	@DOCKER_BUILDKIT=1 docker build --file docker/Dockerfile --target $(TARGET) \
	  --build-arg VERSION=$(VERSION) --build-arg REVISION="$$(git rev-parse HEAD)" \
	  --tag $(IMAGE):$(VERSION)-$(TARGET) .

image-push:  ## push both images: make image-push IMAGE=registry.example.com/team/llara
	@docker push $(IMAGE):$(VERSION)-cpu
	@docker push $(IMAGE):$(VERSION)-cuda

zenml-ui: setup  ## the ZenML dashboard on http://127.0.0.1:8237
	@$(BIN)/python -m pipelines stack
	@set -a; . $(LLARA_LOCAL)/env; $(BIN)/zenml login --local --port 8237 --blocking

mlflow-ui: setup  ## MLflow on http://127.0.0.1:5000
	@$(BIN)/python -m pipelines stack
	@. $(LLARA_LOCAL)/env; $(BIN)/mlflow ui --backend-store-uri "$$MLFLOW_TRACKING_URI" --host 127.0.0.1 --port 5000

constraints: setup  ## write constraints.txt anew from the environment
	@$(BIN)/python tools/freeze.py > constraints.txt.new && mv constraints.txt.new constraints.txt

clean:  ## remove what runs and tests made (.local, caches); the environment stays
	@echo "make: removing .local and the caches"
	@rm -rf .local .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
	@find llara_core llara_mlflow steps pipelines tests tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

clean-all: clean  ## the environment too
	@rm -rf $(VENV)
