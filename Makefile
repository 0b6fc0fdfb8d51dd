# Two commands on a fresh machine: `make demo` and `make test`. The rest is for those who change Mainstem.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test check format bench lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

demo: setup  ## three simulated upstreams, the gateway and a webhook receiver on loopback
	$(BIN)/mainstem demo

test: setup  ## the whole test suite, in parallel
	$(BIN)/python -m pytest -n auto

check: setup  ## format, lint, types, import direction, tests with coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --cov --cov-report=
	$(BIN)/coverage report
	$(BIN)/python -m tests.coverage_of_pure_modules

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup  ## prints a table; ratios against references measured in the same run
	$(BIN)/python -m bench

lock: setup  ## after a change of dependencies in pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group dev --generate-hashes \
		--no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements.lock

clean:
	rm -rf .venv dist .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
