# make demo   train on the embedded digits data and print what it costs
# make test   the test suite
# make check  ruff, types and laws, in about a minute
# make bench  ours and the installed peers side by side (benchmarks/README.md); BENCH_FLAGS=--quick for a first look

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

BENCH := .venv-bench
BRIAN := .venv-brian
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check bench install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -c constraints.txt torch
	$(BIN)/python $(PIP) -c constraints.txt -e ".[dev]"
	touch $@

demo: install
	$(BIN)/spikewright train --data digits

test: install
	$(BIN)/python -m pytest -n 2

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 tests/laws

bench: $(BENCH)/installed $(BRIAN)/installed
	for script in neuron training inference memory start where stdp diehl_cook spike_time; do \
		$(BENCH)/bin/python benchmarks/$$script.py $(BENCH_FLAGS) || exit 1; \
	done

$(BENCH)/installed: pyproject.toml constraints.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python $(PIP) -c constraints.txt torch
	$(BENCH)/bin/python $(PIP) -c constraints.txt -e .
	$(BENCH)/bin/python $(PIP) --no-deps -r benchmarks/requirements.txt
	touch $@

$(BRIAN)/installed: benchmarks/requirements-brian.txt
	$(PYTHON) -m venv $(BRIAN)
	$(BRIAN)/bin/python $(PIP) -r benchmarks/requirements-brian.txt
	touch $@

clean:
	rm -rf $(VENV) $(BENCH) $(BRIAN) build dist
