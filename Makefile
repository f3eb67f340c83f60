# Everything a checkout needs: `make demo` or `make test` builds its own environment in .venv first, once.
#
#   make demo     run the embedded default end to end
#   make test     ruff, mypy and pytest; pytest's summary comes last
#   make check    ruff and mypy alone
#   make lock     pin the environment again, from a clean one
#   make clean    remove the environment and every cache; studies in runs/ stay
#
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PROJECT := $(VENV)/.project
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check lock clean python
.DELETE_ON_ERROR:

demo: $(PROJECT)
	@$(BIN)/mergesearch demo

# All three run whatever the others say, so that one call shows every fault.
test: $(PROJECT)
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/mypy || status=1; \
	$(BIN)/pytest || status=1; \
	exit $$status

check: $(PROJECT)
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/mypy || status=1; \
	exit $$status

# The stamp is written last: an install that was interrupted is begun again.
$(READY): requirements.lock | python
	@echo "making $(VENV) from requirements.lock, once; a few minutes"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@touch $@

$(PROJECT): $(READY) pyproject.toml
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

python:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON): not found; name a Python of 3.11 or newer, as in: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit("$(PYTHON): must be Python 3.11 or newer, is " + sys.version.split()[0] \
	  + "; name another, as in: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'

# Pins what a clean environment gets. Left out: this project, and the CUDA libraries that torch brings along where pip's
# index has no CPU build (torch's own requirements add the right ones on the machine that installs).
lock: | python
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch/env" && \
	"$$scratch/env/bin/python" -m pip install --quiet '.[demo,dev]' hatchling editables torch==2.13.0 && \
	"$$scratch/env/bin/python" -m pip freeze --exclude mergesearch > "$$scratch/freeze" && \
	{ sed -n '/^#/p' requirements.lock && \
	  grep -v -i -E '^(nvidia-|cuda-|triton==)' "$$scratch/freeze" | sed -E 's/ @ .*//; s/\+[a-z0-9.]+$$//'; } \
	  > "$$scratch/lock" && \
	mv "$$scratch/lock" requirements.lock && \
	echo "requirements.lock: $$(grep -c == requirements.lock) packages"

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
