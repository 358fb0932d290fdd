# Everything runs in .venv, which is made on first use and brought up to date when the list of
# packages changes. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
COMMITTED := .venv/committed
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Threads that spin while they wait for one another slow a busy machine to a half or a quarter.
export OMP_WAIT_POLICY = passive
# Without bytecode on disk each process compiles its libraries anew: PyTorch takes 5 s, not 2.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run reports page check test lint lab bench constraints address clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/'

run: $(INSTALLED)  ## all notebooks on the embedded sample, no download; or on published drawings: SOURCE=raw
	$(BIN)/python -m doodlelib.run --demo $(if $(SOURCE),--source $(SOURCE))

reports: $(INSTALLED)  ## all notebooks on published drawings, as pages in reports/html: half an hour
	$(BIN)/python experiments/pages.py

lab: $(INSTALLED)  ## open notebook 05 in JupyterLab: sliders, drawing pad, map of the latent space
	$(BIN)/python -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks/05_latent_space.ipynb

page: $(INSTALLED)  ## one HTML file to draw with the model in a browser, offline
	$(BIN)/python -m doodlelib -m page

check: lint  ## lint and the fast tests: two minutes
	$(PYTEST) -m "not slow"

test: lint  ## lint, then all tests: some 25 minutes
	$(PYTEST)

# Notebooks are checked for outputs as they are committed: one open in the lab may hold some.
lint: $(INSTALLED)  ## formatting, style, types, notebooks without outputs
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/ty check doodlelib
	rm -rf $(COMMITTED)
	git checkout-index --prefix=$(COMMITTED)/ -- $$(git ls-files 'notebooks/*.ipynb')
	$(BIN)/nbstripout --verify $(COMMITTED)/notebooks/*.ipynb

bench: $(INSTALLED)  ## speed and memory at a small size, in one table: some minutes
	$(BIN)/python benchmarks/all.py

# What CUDA's libraries must be, torch says itself, for whichever CUDA it was built with.
constraints: $(INSTALLED)  ## pin all packages in constraints.txt; to newer versions: UPGRADE=--upgrade
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
	  --strip-extras --no-annotate --custom-compile-command "make constraints" --quiet \
	  $(UPGRADE) --output-file constraints.txt
	sed -i.before -E '/^(nvidia|cuda)-/d' constraints.txt && rm constraints.txt.before

# The address stands in the files that pip, citation tools and readers look at.
address:  ## say where this repository lives: OWNER=name of the account
	sed -i.before 's#github.com/OWNER/#github.com/$(OWNER)/#; s#/gh/OWNER/#/gh/$(OWNER)/#; s#github/OWNER/#github/$(OWNER)/#' \
	  README.md pyproject.toml CITATION.cff binder/lab.ipynb
	rm README.md.before pyproject.toml.before CITATION.cff.before binder/lab.ipynb.before

clean:  ## remove caches; data, runs and .venv stay
	rm -rf .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@
