# Voxline. `make` alone lists what there is to do; every target sets itself up on first use.
#
#   make train DATA=/data/Task04_Hippocampus ARGS="--set train.budget_minutes=10"

SHELL  := /bin/bash
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEV    := $(VENV)/.installed-dev

# Without DATA the demo dataset is made and used, with its own short experiment file.
DEMO       := data/demo
DEMO_TEST  := data/demo/imagesTs
DATA       ?=
WORK       ?=
CONFIG     ?=
PRED       ?=
REF        ?=
ARGS       ?=
PORT       ?= 5000
PEERS      ?=
TO         ?= bundle
BENCHES    := train_step resample window audit_case hand_made_pairs coverage

WITH = $(if $(DATA),--data "$(DATA)",--data $(1)) $(if $(CONFIG),--config "$(CONFIG)",$(if $(DATA),,--config configs/demo.yaml)) $(if $(WORK),--work "$(WORK)",$(if $(DATA),,--work runs/demo)) $(ARGS)
NEED_DATA = $(if $(DATA)$(PRED)$(REF),,$(DEMO)/dataset.json)

.DEFAULT_GOAL := help
.PHONY: help setup ingest audit train infer evaluate compare export ui demo format lint types layers schema test test-slow test-gpu check bench screenshots clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1|\2/' | column -t -s '|'
	@echo; echo '  DATA=folder  WORK=folder  CONFIG=file.yaml  ARGS="--set section.key=value"'

setup: $(STAMP) ## Create .venv and install (done by every other target on first use)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (first use, or pyproject.toml or constraints.txt changed)" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(DEV): $(STAMP)
	@echo "installing the tools for tests and checks into $(VENV)" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(DEMO)/dataset.json: $(STAMP) scripts/make_demo_dataset.py
	@$(BIN)/python scripts/make_demo_dataset.py $(DEMO)
	@touch $@

demo: $(DEMO)/dataset.json ## Make the demo dataset in data/demo

ingest: $(STAMP) $(NEED_DATA) ## Read DATA into the case store
	@$(BIN)/voxline ingest $(call WITH,$(DEMO))

audit: $(STAMP) $(NEED_DATA) ## Check the labels of DATA: report.html, exit status 0 clean, 1 warnings, 2 errors
	@$(BIN)/voxline audit $(call WITH,$(DEMO))

train: $(STAMP) $(NEED_DATA) ## Train on DATA (default: a demo dataset); ingests and audits first
	@$(BIN)/voxline train $(call WITH,$(DEMO))

infer: $(STAMP) $(NEED_DATA) ## Predict the images of DATA with WORK's model
	@$(BIN)/voxline infer $(call WITH,$(DEMO_TEST))

evaluate: $(STAMP) $(NEED_DATA) ## Predict and score DATA, or score PRED=folder against REF=folder
	@$(BIN)/voxline evaluate $(if $(PRED)$(REF),$(if $(PRED),--pred "$(PRED)") $(if $(REF),--ref "$(REF)") $(if $(CONFIG),--config "$(CONFIG)") $(if $(WORK),--work "$(WORK)") $(ARGS),$(call WITH,$(DEMO_TEST)))

compare: $(STAMP) ## Is B better than A on the same cases? A=work-folder B=work-folder (or scores, predictions with REF, run ids)
	@$(BIN)/voxline compare "$(A)" "$(B)" $(if $(REF),--ref "$(REF)") $(if $(CONFIG),--config "$(CONFIG)") $(if $(WORK),--work "$(WORK)") $(ARGS)

export: $(STAMP) ## Export WORK's model for use elsewhere (TO=bundle, pt2, onnx or mlflow)
	@$(BIN)/voxline export --to $(TO) $(if $(WORK),--work "$(WORK)") $(ARGS)

ui: $(STAMP) ## Compare runs in the MLflow UI (loopback only; PORT=5000)
	@$(BIN)/voxline ui --port $(PORT) $(if $(WORK),--work "$(WORK)") $(ARGS)

format: $(DEV) ## Format the code
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(DEV) ## Check style
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: $(DEV) ## Check types
	@$(BIN)/mypy

layers: $(DEV) ## Check that imports only go down
	@$(BIN)/lint-imports

schema: $(STAMP) ## Write configs/schema.json for completion in editors
	@$(BIN)/voxline schema > configs/schema.json

test: $(DEV) ## Run the tests (under 8 minutes on 2 cores, no GPU, no network)
	@$(BIN)/python -m pytest -n 2 $(ARGS)

test-slow: $(DEV) ## Run the long tests as well
	@$(BIN)/python -m pytest -n 2 -m "slow and not gpu" $(ARGS)

test-gpu: $(DEV) ## Run the tests that need a GPU
	@$(BIN)/python -m pytest -m gpu $(ARGS)

check: lint types layers test test-slow ## Everything CI runs

bench: $(DEV) ## Run the side-by-side benchmarks (PEERS=python of an environment with nnU-Net: all of them)
	@for name in $(BENCHES); do $(BIN)/python benchmarks/$$name.py || exit 1; done
	@$(BIN)/python benchmarks/metrics.py $(if $(PEERS),--peers-python "$(PEERS)")
	@$(if $(PEERS),PYTHONPATH=tests $(BIN)/python benchmarks/faults.py --peers-python "$(PEERS)")
	@$(if $(PEERS),$(BIN)/python benchmarks/audit_hippocampus.py ../shared/data/Task04_Hippocampus --peers-python "$(PEERS)")
	@$(if $(PEERS),$(BIN)/python benchmarks/nnunet_summary.py --peers-python "$(PEERS)")

screenshots: $(DEV) ## Take the pictures of the reports and the MLflow UI in docs/ (needs Chromium)
	@$(BIN)/python scripts/screenshot_report.py docs/images
	@$(BIN)/python scripts/screenshot_mlflow.py runs docs/images

clean: ## Remove caches; data, runs and .venv stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
