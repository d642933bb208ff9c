# Everything one does with this project. Needs Python 3.11 or newer, and make; the rest is fetched into $(VENV).

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
# Seconds for each decoder that is fuzzed.
FUZZ_SECONDS ?= 60
# Processes that run tests side by side, each a file at a time: twice two cores, since tests wait for more time than they compute.
PYTEST_WORKERS ?= 4
# A process that dies ends the run: a new one in its place would leave what was dealt to the first undone, and wait for ever.
SIDE_BY_SIDE = -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder --max-worker-restart=0
# Seconds for which each scenario of the chaos suite makes trouble, and which ones (all of them).
CHAOS_SECONDS ?= 60
CHAOS ?=
# The interpreters that the project promises to run on.
VERSIONS := 3.11 3.12 3.13

BIN := $(VENV)/bin
# Made anew when the requirements change, not when the code does: the install is editable.
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install test test-fast fuzz chaos check lint types imports security docs format demo pictures bench coverage dist test-all $(VERSIONS:%=test-%) clean

help:  ## Show what can be made.
	@grep -hE '^[a-z0-9%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=/path/to/it. This is " + sys.version)'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "This Python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(INSTALLED)  ## Make the virtual environment, with everything the other targets need.

test: $(INSTALLED)  ## Run the tests; choose some with PYTEST_ARGS="tests/wire -k codec".
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

test-fast: $(INSTALLED)  ## Run the tests that start no process and take little time: under a minute.
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not system and not slow" $(PYTEST_ARGS)

fuzz: $(INSTALLED)  ## Fuzz every decoder, guided by coverage, for FUZZ_SECONDS each; what was found stays in .fuzz. Then try many random examples.
	$(BIN)/python -m tests.fuzz all --seconds $(FUZZ_SECONDS)
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m hypothesis --hypothesis-profile=thorough

chaos: $(INSTALLED)  ## Make trouble of every kind over five hosts (network namespaces; as root), CHAOS_SECONDS of each.
	$(BIN)/python -m tests.system.chaos --seconds $(CHAOS_SECONDS) $(CHAOS)

coverage: $(INSTALLED)  ## Run the fast tests and show which lines they ran: .coverage-html/index.html.
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not system" --cov --cov-report=term:skip-covered --cov-report=html:.coverage-html $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

docs: $(INSTALLED)  ## Build the documentation into docs/_build/html; warnings and dead links are errors.
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/check.py docs/_build/html

security: $(INSTALLED)  ## Look for risky code (bandit), and for known faults of what is installed (pip-audit; needs a network).
	$(BIN)/bandit -q -c pyproject.toml -r zmqservices discovery
	$(BIN)/python .ci/audit

check: lint types imports security docs test  ## Everything that must be green before a change goes in.

format: $(INSTALLED)  ## Let ruff mend what it can.
	$(BIN)/ruff check --fix .

demo: $(INSTALLED)  ## See services find and call each other, and survive what happens to them; it opens with the URL of a live map.
	$(BIN)/python -m examples.shop.demo
	$(BIN)/python -m examples.demo

pictures: $(INSTALLED)  ## Take the pictures of the live map in docs/images again, in a real browser; needs redis-server and chromium.
	$(BIN)/python -m docs.pictures

bench: $(INSTALLED)  ## Measure calls per second and CPU per call on this machine.
	$(BIN)/python -m bench

test-all: $(VERSIONS:%=test-%)  ## Run the tests on every Python that the project promises to run on.

# One environment per version. A missing interpreter is never passed over in silence, and never at all in CI.
$(VERSIONS:%=test-%): test-%:
	@if python=$$(.ci/find-python $*); then \
		$(MAKE) --no-print-directory test VENV=.venv-$* PYTHON="$$python"; \
	elif [ "$(CI)" = true ]; then \
		echo "ERROR: Python $* was not found, and CI must test it" >&2; exit 1; \
	else \
		echo "################################################################" >&2; \
		echo "## NOT TESTED: Python $* was not found on this machine" >&2; \
		echo "################################################################" >&2; \
	fi

dist: $(INSTALLED)  ## Build wheel and source archive, check them, and try the wheel in an environment of its own.
	rm -rf dist build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	.ci/try-wheel $(PYTHON) dist/*.whl

clean:  ## Remove what was made, the virtual environments too.
	rm -rf .venv .venv-* build dist docs/_build .coverage .coverage-html *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
