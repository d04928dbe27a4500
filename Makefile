# Everything runs in a virtual environment of its own, which the first target that needs it makes.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

# What of the instrumentor's tests CI runs with older SDKs: the seam and streams, without trio. `nox` runs them all.
SEAM_TESTS = $(addprefix tests/openai/test_,clients.py endings.py operations.py patching.py path_variants.py \
	request_bytes.py retries.py stream_endings.py streams.py)

.PHONY: demo test test-openai-versions lint format typecheck bench wheel clean

demo: $(VENV)/.demo ## install, then run the tool-calling agent
	$(RUN) examples/tool_agent_chat.py

test: $(VENV)/.dev ## install, then run the tests
	$(RUN) -m pytest -n 2

test-openai-versions: $(VENV)/.dev ## run the seam's tests with the oldest openai, and the newest 2.x
	$(RUN) -m nox -s 'tests_openai(oldest)' 'tests_openai(newest-2)' -- -x -k 'not trio' $(SEAM_TESTS)

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/.dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

typecheck: $(VENV)/.dev
	$(RUN) -m mypy

bench: $(VENV)/.dev
	$(RUN) -m benchmarks.overhead

wheel: $(VENV)/.dev ## build the wheel, and run an example on it in a fresh environment
	rm -rf dist $(VENV)-wheel
	$(RUN) -m pip wheel --quiet --no-deps --wheel-dir dist .
	$(PYTHON) -m venv $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet "$$(ls dist/*.whl)[testing]"
	cd dist && ../$(VENV)-wheel/bin/python ../examples/tool_agent_chat.py

clean:
	rm -rf $(VENV) $(VENV)-wheel .nox dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable '.[testing]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo
