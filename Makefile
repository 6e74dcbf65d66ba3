# `make train` and `make test` are all the set-up there is: both create .venv first. Python 3.11, 3.12 or 3.13 is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Two at a time: tracing a graph takes one core. A file's tests stay together, since they share models.
TWO := -n 2 --dist loadfile
# Under CI=true nothing is left out silently, and nothing passes that lint refuses.
ifeq ($(CI),true)
FIRST := lint
OTHERWISE := exit 1
else
OTHERWISE := true
endif

.PHONY: train test test-all test-arm docs lint format app lock

$(VENV)/.installed: requirements-runtime.txt requirements-app.txt requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is none: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements-dev.txt
	@touch $@

# What converted checkpoints are compared with. Without it those tests skip, and say why; the others run.
$(VENV)/.parity: $(VENV)/.installed requirements-parity.txt
	@echo "installing the references of requirements-parity.txt, once; a minute or two"
	@$(PIP) --no-deps --retries 1 -r requirements-parity.txt 2>$(VENV)/parity.log && touch $@ || \
	  { echo "the references could not be installed ($(VENV)/parity.log says why): the parity tests will skip" >&2; \
	    $(OTHERWISE); }

# What only --data hf and --track mlflow need. Without it their tests skip, and say why.
$(VENV)/.extras: $(VENV)/.installed requirements-extras.txt
	@echo "installing requirements-extras.txt, once"
	@$(PIP) --no-deps --retries 1 -r requirements-extras.txt 2>$(VENV)/extras.log && touch $@ || \
	  { echo "the extras could not be installed ($(VENV)/extras.log says why): their tests will skip" >&2; \
	    $(OTHERWISE); }

# What `make docs` and the notebooks need. Without it their tests skip, and say why.
$(VENV)/.docs: $(VENV)/.installed requirements-docs.txt
	@echo "installing requirements-docs.txt, once"
	@$(PIP) --no-deps --retries 1 -r requirements-docs.txt 2>$(VENV)/docs.log && touch $@ || \
	  { echo "what the site needs could not be installed ($(VENV)/docs.log says why): its tests will skip" >&2; \
	    $(OTHERWISE); }

train: $(VENV)/.installed ## DeepLabV3+ on the drawn scenes, within 10 minutes on two cores
	$(BIN)/python -m training.train deeplabv3plus --data scenes --name first

test: $(FIRST) $(VENV)/.parity $(VENV)/.extras $(VENV)/.docs ## what CI runs
	$(BIN)/python -m pytest $(TWO) -m "not slow"

test-all: $(FIRST) $(VENV)/.parity $(VENV)/.extras $(VENV)/.docs ## the slow ones too
	$(BIN)/python -m pytest $(TWO)

test-arm: $(VENV)/.installed ## every shipped file and network on emulated Arm cores; fetches QEMU and an arm64 Python once
	$(BIN)/python -m tests.arm
	$(BIN)/python -m pytest -s tests/test_arm.py

docs: $(VENV)/.docs ## the site, in .site/; a link that leads nowhere fails
	$(BIN)/python -m deploy.site

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

app: $(VENV)/.installed
	$(BIN)/streamlit run streamlit_app.py --server.address localhost

# The pins, from the ranges of pyproject.toml; uv is needed for this alone. `make lock UPGRADE=--upgrade` takes the newest.
lock: $(VENV)/.installed
	$(PIP) uv==0.13.9
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python deploy/lock.py $(UPGRADE)
