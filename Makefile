# `make train` and `make test` are all the set-up there is: both create .venv first. Python 3.11 is needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Two at a time: tracing a graph takes one core. A file's tests stay together, since they share models.
TWO := -n 2 --dist loadfile

.PHONY: train test test-all lint format app

$(VENV)/.installed: requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed and $(PYTHON) is another version: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

# What converted checkpoints are compared with. Without it those tests skip, and say why; the others run.
$(VENV)/.parity: $(VENV)/.installed requirements-parity.txt
	@echo "installing the references of requirements-parity.txt, once; a minute or two"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 \
	  -r requirements-parity.txt 2>$(VENV)/parity.log && touch $@ || \
	  echo "the references could not be installed ($(VENV)/parity.log says why): the parity tests will skip" >&2

# What only --data hf and --track mlflow need. Without it their tests skip, and say why.
$(VENV)/.extras: $(VENV)/.installed requirements-extras.txt
	@echo "installing requirements-extras.txt, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --retries 1 \
	  -r requirements-extras.txt 2>$(VENV)/extras.log && touch $@ || \
	  echo "the extras could not be installed ($(VENV)/extras.log says why): their tests will skip" >&2

train: $(VENV)/.installed ## DeepLabV3+ on the drawn scenes, within 10 minutes on two cores
	$(BIN)/python -m training.train deeplabv3plus --data scenes --name first

test: $(VENV)/.parity $(VENV)/.extras ## what CI runs
	$(BIN)/python -m pytest $(TWO) -m "not slow"

test-all: $(VENV)/.parity $(VENV)/.extras ## the slow ones too
	$(BIN)/python -m pytest $(TWO)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

app: $(VENV)/.installed
	$(BIN)/streamlit run streamlit_app.py --server.address localhost
