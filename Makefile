# make setup | test | test-slow | mutants | demo | docs | lint
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: setup test test-slow mutants demo docs lint clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet torch==2.13.0
	$(VENV)/bin/pip install --quiet -e '.[torch,sim,cli,dev]'
	touch $(STAMP)

test: $(STAMP)
	$(VENV)/bin/python -m transept.host.cli doctor
	$(VENV)/bin/pytest -m 'not slow'

test-slow: $(STAMP)
	$(VENV)/bin/pytest -m slow

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

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:
	rm -rf $(VENV) .cache build
