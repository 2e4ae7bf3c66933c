# Every target sets up what it needs: .venv with the pinned packages, and the MLflow store.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?=
PORT ?= 5000
export MLFLOW_DISABLE_TELEMETRY ?= true
export PYTHON

.PHONY: help setup demo test lint mlflow predict pack clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make or refresh .venv (PYTHON=python3.12 picks the Python)
	@./setup.sh

demo: setup ## phantoms, training, evaluation, a scan and the page of results
	@.venv/bin/python -m bundles demo

test: setup ## run the tests
	@.venv/bin/python -m pytest -n 2

lint: setup ## ruff and mypy
	@.venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/mypy --no-error-summary .

mlflow: setup ## show the runs on http://127.0.0.1:5000 (PORT=5001 for another port)
	@.venv/bin/python -c "from handlers.mlflow_store import serve; serve($(PORT))"

# The values reach the shell as variables, so that blanks and quotes in a path stay as they are.
predict: export LOCUS_BUNDLE = $(value BUNDLE)
predict: export LOCUS_SCAN = $(value SCAN)
predict: export LOCUS_OUT = $(value OUT)
predict: ## apply the last checkpoint: BUNDLE=lung_ct_cancer_risk SCAN=path OUT=folder
	@if [ -z "$$LOCUS_BUNDLE" ] || [ -z "$$LOCUS_SCAN" ] || [ -z "$$LOCUS_OUT" ]; then \
		echo "make predict needs BUNDLE, SCAN and OUT, got BUNDLE='$$LOCUS_BUNDLE' SCAN='$$LOCUS_SCAN' OUT='$$LOCUS_OUT'" >&2; \
		exit 2; \
	fi
	@$(MAKE) --no-print-directory setup
	@.venv/bin/python -m bundles predict "$$LOCUS_BUNDLE" --scans "$$LOCUS_SCAN" --output "$$LOCUS_OUT"

pack: export LOCUS_BUNDLE = $(value BUNDLE)
pack: ## pack a trained bundle into dist/: BUNDLE=lung_ct_cancer_risk
	@if [ -z "$$LOCUS_BUNDLE" ]; then \
		echo "make pack needs BUNDLE, such as BUNDLE=lung_ct_cancer_risk, got none" >&2; \
		exit 2; \
	fi
	@$(MAKE) --no-print-directory setup
	@.venv/bin/python -m bundles.pack "$$LOCUS_BUNDLE"

clean: ## remove .venv and the caches; runs/ and data/ stay
	@rm -rf .venv .setup.lock build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
