# Everything runs in its own virtual environment. The first target that needs this environment makes it.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

# uv installs in 10 s what takes pip two minutes. uv reads no pip.conf; where it fails for that reason, pip installs.
export UV_SYSTEM_CERTS ?= 1
install = $(VENV)/bin/uv pip install --quiet --python $(1)/bin/python $(2) \
	|| $(RUN) -m pip --python $(1)/bin/python install --quiet $(2)

# The tests of tests/openai that CI runs with older SDKs: those of the seam (where the openai package is patched) and of
# streams, without trio. `nox -s tests_openai` runs all of tests/openai.
SEAM_TESTS = $(addprefix tests/openai/test_,clients.py endings.py operations.py patching.py path_variants.py \
	request_bytes.py retries.py stream_endings.py streams.py)
# The tests that CI runs with other Pythons: those that depend on threads, exits, forks, signals and sqlite3.
# `nox -s tests` runs all tests. Most of them wait for processes, so four at a time suit two cores.
PYTHON_TESTS = tests/processes tests/test_*.py tests/openai/test_endings.py tests/store/sqlite/test_database.py

.PHONY: demo test test-clickhouse test-openai-versions test-pythons simulate faults lint format typecheck bench soak wheel clean

demo: $(VENV)/.demo ## install, then run the tool-calling agent
	$(RUN) examples/tool_agent_chat.py

test: $(VENV)/.dev ## install, then run the tests
	$(RUN) -m pytest -n 2

test-clickhouse: $(VENV)/.dev ## run the tests of ClickHouse's store, whose engine runs in their process
	$(RUN) -m pytest -n 2 --clickhouse tests/store tests/moving

test-openai-versions: $(VENV)/.dev ## run the seam's tests with the oldest openai, and the newest 2.x
	$(RUN) -m nox -s 'tests_openai(oldest)' 'tests_openai(newest-2)' -- -n 2 -x -k 'not trio' $(SEAM_TESTS)

test-pythons: $(VENV)/.dev ## run what depends on the interpreter with the Pythons that `make test` does not run with
	$(RUN) -m nox -s tests-3.10 tests-3.12 tests-3.13 -- -n 4 $(PYTHON_TESTS)

simulate: $(VENV)/.dev ## let SEEDS simulated services live, whose databases fail and whose processes are killed
	$(RUN) -m tests.simulation --seeds $(or $(SEEDS),10000)

faults: $(VENV)/.dev ## run the tests of the fault matrix, and print it
	$(RUN) -m tests.faults -n 2

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports --cache-dir .ruff_cache/imports

format: $(VENV)/.dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

typecheck: $(VENV)/.dev
	$(RUN) -m mypy

bench: $(VENV)/.dev
	$(RUN) -m benchmarks.overhead

soak: $(VENV)/.dev ## let a service run under load and faults for MINUTES: does it level off, do its accounts close
	$(RUN) -m benchmarks.soak --minutes $(or $(MINUTES),10)

wheel: $(VENV)/.dev ## build the wheel, and run an example on it in a fresh environment
	rm -rf dist $(VENV)-wheel
	$(VENV)/bin/uv build --quiet --wheel || $(RUN) -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv --without-pip $(VENV)-wheel
	wheel="$$(ls dist/*.whl)[testing]"; $(call install,$(VENV)-wheel,"$$wheel")
	cd dist && ../$(VENV)-wheel/bin/python ../examples/tool_agent_chat.py

clean:
	rm -rf $(VENV) $(VENV)-wheel .nox dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet uv || true

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(call install,$(VENV),--editable '.[testing]')
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(call install,$(VENV),--editable '.[dev]')
	@touch $@ $(VENV)/.demo
