# make test | demo | pictures | benchmark | lint | clean.  The environment is made once, in .venv, and again when its inputs change.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: test demo pictures benchmark lint format clean

test: $(STAMP)
	$(BIN)/python -m pytest

# A generated RGB-D frame that no training has seen, reconstructed and compared with its truth.
demo: $(STAMP)
	$(BIN)/cupid demo --preset best --out build/demo

# The picture of README.md, from the frame that ships.
pictures: $(STAMP)
	$(BIN)/python docs/make_pictures.py

# The pose solver beside its alternatives.
benchmark: $(STAMP)
	$(BIN)/python benchmarks/pose_solver.py --quick

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml setup.py .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
