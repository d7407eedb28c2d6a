# The whole developer's manual: make check, make test. See CONTRIBUTING.md.
VENV := .venv
PY := $(VENV)/bin/python
PYTEST := $(PY) -m pytest

.PHONY: demo test test-long check bench fuzz docs format clean

demo: $(VENV)/.runtime
	$(VENV)/bin/unchoke demo

test: $(VENV)/.dev
	$(PYTEST) -q

test-long: $(VENV)/.dev
	$(PYTEST) -q -m long

check: $(VENV)/.dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.dev
	$(PY) -m benchmarks

fuzz: $(VENV)/.dev
	$(PY) -m fuzz

docs: $(VENV)/.dev
	$(PY) docs/generate.py

format: $(VENV)/.dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

$(VENV)/.runtime: pyproject.toml
	test -x $(PY) || python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: pyproject.toml
	test -x $(PY) || python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -e '.[dev]'
	touch $(VENV)/.runtime $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
