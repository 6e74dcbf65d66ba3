# `make train` and `make test` are all the set-up there is: both create .venv first. Python 3.11 is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: train test test-all lint format app

$(VENV)/.installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed and $(PYTHON) is another version: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

train: $(VENV)/.installed ## DeepLabV3+ on the drawn scenes, within 10 minutes on two cores
	$(BIN)/python -m training.train deeplabv3plus --data scenes --name first

test: $(VENV)/.installed ## what CI runs
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.installed ## the slow ones too
	$(BIN)/python -m pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

app: $(VENV)/.installed
	$(BIN)/streamlit run streamlit_app.py
