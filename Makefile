# Everything runs in .venv, which is made on first use and brought up to date when the list of
# packages changes. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

# Threads that spin while they wait for one another slow a busy machine to a half or a quarter.
export OMP_WAIT_POLICY = passive

.DEFAULT_GOAL := help
.PHONY: help run reports test lint lab bench clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/'

run: $(INSTALLED)  ## notebooks 01 to 05 on the embedded sample: a few minutes, no download of drawings
	$(BIN)/python -m doodlelib.run --demo

reports: $(INSTALLED)  ## the same on published drawings, as pages in reports/html: half an hour
	$(BIN)/python -m doodlelib.run --reports

test: lint  ## lint, then all tests
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)  ## formatting, style, notebooks without outputs, types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/ty check doodlelib

lab: $(INSTALLED)  ## open JupyterLab
	$(BIN)/python -m jupyterlab

bench: $(INSTALLED)  ## speed and memory at a small size, in one table: some minutes
	$(BIN)/python benchmarks/all.py

clean:  ## remove caches; data, runs and .venv stay
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
