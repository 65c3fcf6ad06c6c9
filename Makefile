# make demo    a bag through the node: out/contact_sheet.png, out/views/, out/views.mcap
# make test    lint and tests
# make clean   remove the environment and everything built
#
# Both build what they need first, and only once. A machine needs Linux x86-64, Python 3.11, a C++
# compiler and make; ROS 2 itself comes from PyPI into .venv.

PYTHON ?= python3.11
# Empty (`make TORCH_INDEX=`) takes PyPI's CUDA build of torch.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo test lint build clean

prefix := $(CURDIR)/.venv
python := .venv/bin/python
pip := $(python) -m pip install -qq --disable-pip-version-check --constraint constraints.txt
installed := .venv/.installed
built := build/.built
package_files := package.xml setup.py setup.cfg $(wildcard resource/* launch/* config/*)
interface_files := $(shell find nvs_interfaces -type f)

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: build
	@$(python) demo/run.py

test: lint
	@$(python) -m pytest

lint: build
	@$(python) -m ruff check .

build: $(built)

clean:
	rm -rf .venv build install log out .pytest_cache .ruff_cache .hypothesis

$(installed): constraints.txt requirements.txt requirements-environment.txt scripts/relocate_ros_wheels.py
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) not found: the ROS 2 wheels exist for Python 3.11 alone" >&2; exit 1; }
	@echo "== environment 1/3: .venv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "Python 3.11 is needed, this is " + sys.version)'
	@$(PYTHON) -m venv .venv
	@echo "== environment 2/3: torch (200 MB)"
	@$(pip) --no-deps torch $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) --retries 1)
	@echo "== environment 3/3: diffusers, ROS 2 and the rest (a few minutes, 2 GB on disk)"
	@$(pip) -r requirements-environment.txt
	@$(python) scripts/relocate_ros_wheels.py
	@touch $@

# Both packages are installed into the prefix .venv itself, where the ROS 2 wheels are too. So its Python
# finds the messages as it finds any package, and their libraries in .venv/lib, which the wheels put on
# LD_LIBRARY_PATH when Python starts: pytest, `.venv/bin/python -m nvs_ros` and every subprocess work
# without a setup.bash. With --symlink-install an edit in nvs_ros/ needs no new build; the .pth file
# stands for the PYTHONPATH entry that colcon's setup.bash would make.
# nvs_interfaces lies inside nvs_ros, where colcon does not look by itself: --base-paths names both.
$(built): $(installed) $(package_files) $(interface_files)
	@echo "== build: nvs_interfaces and nvs_ros with colcon (about a minute)"
	@env AMENT_PREFIX_PATH=$(prefix) CMAKE_PREFIX_PATH=$(prefix) PATH=$(prefix)/bin:$$PATH \
	  $(python) -m colcon --log-level error build --base-paths . nvs_interfaces \
	  --merge-install --symlink-install --install-base .venv \
	  --event-handlers console_cohesion- --cmake-args -G Ninja -DBUILD_TESTING=OFF
	@echo $(CURDIR)/build/nvs_ros >.venv/lib/python3.11/site-packages/nvs_ros.pth
	@touch $@
