# Everything runs in a virtual environment of its own, which the first target that needs it makes.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python

.PHONY: demo test lint format typecheck bench wheel clean

demo: $(VENV)/.demo ## install, then run the tool-calling agent
	$(RUN) examples/tool_agent_chat.py

test: $(VENV)/.dev ## install, then run the tests
	$(RUN) -m pytest

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
	rm -rf $(VENV) $(VENV)-wheel dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable '.[testing]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.demo
