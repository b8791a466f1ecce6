# Everything runs in .venv, which the first target that needs it sets up.
# PYTHON=/path/to/python3.11 chooses the Python; WORKERS=n the processes of the tests.
WORKERS ?= 2
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint clean

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Create .venv with the pinned stack, if it is not there
	@sh tools/setup_env.sh

demo: setup  ## Train and evaluate a detector on shapes, in minutes on a CPU
	@$(BIN)/python tools/demo.py

test: lint  ## Run the checks and all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -v -n $(WORKERS) --dist worksteal

lint: setup  ## Check format and style
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

clean:  ## Remove build output and caches; keep .venv, data and work_dirs
	rm -rf build dist *.egg-info .setup .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
