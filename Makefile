# make test | demo | pictures | benchmark | lint | ros | ros-test | clean.  The environment is made once, in .venv, and again
# when its inputs change; ROS 2 has one of its own, .venv-ros, which sees the packages of .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ROS_VENV  := .venv-ros
ROS_STAMP := $(ROS_VENV)/.installed
ROS_PYTHON := $(ROS_VENV)/bin/python

.PHONY: test demo pictures benchmark lint format ros ros-wheels ros-test clean

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

# ROS 2 as wheels from PyPI (Linux on x86_64), and the interfaces of this package built for it with cmake.
ros: ros-wheels
	$(ROS_PYTHON) -m cupid_ros.ros_wheels

ros-wheels: $(ROS_STAMP)

# The tests of the ROS layer with a real ROS 2: a missing one fails. DDS stays on loopback.
ros-test: ros
	CUPID_REQUIRE_ROS=1 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_DOMAIN_ID=$${ROS_DOMAIN_ID:-87} \
	AMENT_PREFIX_PATH=$(CURDIR)/$(ROS_VENV)/ros:$(CURDIR)/$(ROS_VENV) PATH=$(CURDIR)/$(ROS_VENV)/bin:$$PATH \
	$(ROS_PYTHON) -m pytest tests/ros

$(ROS_STAMP): .ci/ros.txt $(STAMP)
	rm -rf $(ROS_VENV)
	$(BIN)/python -m venv $(ROS_VENV)
	$(ROS_PYTHON) -m pip install --quiet --no-deps --require-hashes --requirement .ci/ros.txt
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > "$$($(ROS_PYTHON) -c \
	  "import sysconfig; print(sysconfig.get_path('purelib'))")/cupid_dependencies.pth"
	touch $(ROS_STAMP)

clean:
	rm -rf $(VENV) $(ROS_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
