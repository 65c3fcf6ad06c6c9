#!/usr/bin/env bash
# Fetch wheels for a machine without a network, for scripts/train_gpu.sh: Python 3.12, Linux x86-64.
#
#   scripts/fetch_wheels.sh FOLDER [PACKAGE...]
#
# By default the packages missing on a machine with PyTorch, transformers, numba, OpenCV, SciPy and
# matplotlib. Versions are those of constraints.txt; dependencies are not fetched.
set -euo pipefail

folder=${1:?"FOLDER is missing"}
shift
python=${PYTHON:-.venv/bin/python}
if (($# == 0)); then
  set -- diffusers importlib-metadata zipp
fi

mkdir -p "$folder"
platforms=()
for version in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do
  platforms+=(--platform "${version}_x86_64")
done
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --python-version 3.12 --implementation cp "${platforms[@]}" \
  --constraint "$(dirname "$0")/../constraints.txt" --dest "$folder" "$@"
du --bytes --summarize "$folder"
