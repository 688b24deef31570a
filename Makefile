# Every target makes its own virtual environment in .venv; only Python 3.11+ and make are needed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
SOURCES := aiotaos benchmarks examples tests

.PHONY: demo test check live failover storm bench format coverage clean

demo: .venv/.demo  ## load real sensor data into the embedded server, stream it back, summarise it
	$(BIN)/python examples/weather.py $(if $(DSN),--dsn "$(DSN)")

test: .venv/.test  ## the tests, warnings as errors
	$(BIN)/python -m pytest -q $(ARGS)

check: .venv/.dev  ## what a change must pass: format, lint, types, tests, coverage of the protocol
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/python -m coverage run -m pytest -q tests/protocol
	$(BIN)/python -m coverage report --include='aiotaos/protocol/*' --fail-under=100
	$(BIN)/python -m pytest -q --ignore=tests/protocol

live: .venv/.test  ## the tests against a real TDengine, over both roads: make live AIOTAOS_TEST_DSN=ws://… AIOTAOS_TEST_NATIVE_DSN=taos://…
	@test -n "$(AIOTAOS_TEST_DSN)" || { echo "set AIOTAOS_TEST_DSN, for example ws://root:taosdata@localhost:6041"; exit 2; }
	AIOTAOS_TEST_DSN="$(AIOTAOS_TEST_DSN)" $(BIN)/python -m pytest -q tests/live $(ARGS)

failover: .venv/.test  ## three servers killed and restarted in turn, for a minute
	AIOTAOS_FAILOVER_SECONDS=60 $(BIN)/python -m pytest -q tests/test_failover.py

storm: .venv/.test  ## 100,000 queries and 20,000 cancellations over the native road's stand-in
	AIOTAOS_NATIVE_QUERIES=100000 AIOTAOS_NATIVE_CANCELLED=20000 $(BIN)/python -m pytest -q \
		tests/native/test_native_queries.py -k "many_queries or cancelled_at_any_moment"

bench: .venv/.bench  ## beside the official clients: make bench DSN=ws://… (without: canned blocks)
	$(BIN)/python benchmarks/bench.py $(if $(DSN),--dsn "$(DSN)") $(ARGS)

format: .venv/.dev  ## format the sources and mend what ruff can
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

coverage: .venv/.test  ## coverage of the whole suite
	$(BIN)/python -m coverage run -m pytest -q
	$(BIN)/python -m coverage report

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage dist

.venv/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "aiotaos needs Python 3.11 or newer; name it with make PYTHON=…"; exit 2; }
	$(PYTHON) -m venv .venv

.venv/.demo: pyproject.toml .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded]'
	@touch $@

.venv/.test: pyproject.toml .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

.venv/.dev: pyproject.toml .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

.venv/.bench: pyproject.toml .venv/pyvenv.cfg
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@
