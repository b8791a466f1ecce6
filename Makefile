# Everything runs in .venv, which the first target that needs it sets up.
# PYTHON=/path/to/python3.11 chooses the Python; WORKERS=n the processes of the tests.
WORKERS ?= 2
BIN := .venv/bin

.DEFAULT_GOAL := help
MAKE_SHAPES := $(BIN)/python demo/make_shapes.py

.PHONY: help setup demo demo-segmentation demo-elastic demo-matching test lint clean

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Create .venv with the pinned stack, if it is not there
	@sh scripts/setup_env.sh

demo: setup  ## Train and evaluate a detector on shapes, in minutes on a CPU
	@$(BIN)/python demo/run.py

demo-segmentation: setup  ## Train and evaluate UperNet with SkipAt on shapes
	@$(MAKE_SHAPES) data/shapes --tasks scenes
	@$(BIN)/python tools/train.py configs/upernet_skipat_pvt_shapes.py --seed 0

demo-elastic: setup  ## Train LookupViTs and ViTs, draw accuracy over compressed tokens
	@$(BIN)/python demo/elastic.py

demo-matching: setup  ## Train a QuadTree matcher on generated pairs, beside SIFT
	@$(BIN)/python demo/pairs.py matching

test: lint  ## Run the checks and all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -v -n $(WORKERS) --dist worksteal

lint: setup  ## Check format, style and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

clean:  ## Remove build output and caches; keep .venv, data and work_dirs
	rm -rf build dist *.egg-info .setup .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
