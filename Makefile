# Two commands on a fresh machine: `make demo` and `make test`. The rest is for those who change Mainstem.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# What the tests of the JavaScript client need; without npm they are skipped.
PACKAGES := $(if $(shell command -v npm),clients/js/node_modules/.ready)

.PHONY: setup demo test check format documents bench lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

clients/js/node_modules/.ready: clients/js/package-lock.json
	npm ci --prefix clients/js --silent --no-audit --no-fund && touch $@ || \
		echo "the packages of clients/js are not installed; tests that need them are skipped" >&2

demo: setup  ## three simulated upstreams, the gateway and a webhook receiver on loopback
	$(BIN)/mainstem demo

test: setup $(PACKAGES)  ## the whole test suite, in parallel
	$(BIN)/python -m pytest -n auto --dist worksteal

check: setup $(PACKAGES)  ## format, lint, types, import direction, tests with coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=
	$(BIN)/coverage report
	$(BIN)/python -m tests.coverage_of_pure_modules

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

documents: setup  ## writes what is made from the code: schemas/documents, docs/configuration.md
	$(BIN)/python -m gateway.documents

bench: setup  ## prints a table; ratios against references measured in the same run
	$(BIN)/python -m bench

lock: setup  ## after a change of dependencies in pyproject.toml
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --group dev --generate-hashes \
		--no-header --no-annotate --no-emit-index-url pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes -c requirements.lock \
		--no-header --no-annotate --no-emit-index-url pyproject.toml -o deploy/requirements.lock

clean:
	rm -rf .venv dist clients/js/node_modules .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis
