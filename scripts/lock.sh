#!/bin/bash
# Write requirements-lock.txt: constraints.txt, which names every package of the environment, with the
# SHA-256 of its files. `make lock` runs it after a change of constraints.txt.
#
# uv asks the index for the hashes. The CPU build of torch is not on PyPI: its wheel is downloaded from
# TORCH_INDEX, as `make build` does, and its hash added to those of PyPI's wheels, either of which pip takes.
set -eu
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3.11}" -m venv "$tools"
"$tools/bin/pip" install -qq --disable-pip-version-check uv==0.13.9
torch=$(sed -n 's/^\(torch==[0-9.]*\)$/\1/p' constraints.txt)
"$tools/bin/pip" download -qq --disable-pip-version-check --no-deps --dest "$tools/wheels" \
  --platform manylinux_2_28_x86_64 --python-version 3.11 --only-binary :all: \
  --extra-index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" --retries 1 "$torch"
wheel=$(ls "$tools/wheels")
"$tools/bin/uv" pip compile --quiet --no-deps --generate-hashes --no-annotate --no-header \
  --python-version 3.11 --python-platform x86_64-manylinux_2_28 constraints.txt -o "$tools/lock"
hash=$("$tools/bin/pip" hash "$tools/wheels/$wheel" | sed -n 's/^--hash=//p')
{
  echo '# constraints.txt with hashes, written by scripts/lock.sh: do not edit. To install it (Python 3.11, Linux):'
  echo '#   pip install --require-hashes --no-deps --extra-index-url https://download.pytorch.org/whl/cpu -r requirements-lock.txt'
  echo "# The first hash of torch is that of $wheel."
  sed "s|^$torch .*|&\n    --hash=$hash \\\\|" "$tools/lock"
} >requirements-lock.txt
grep -c '^[a-z]' requirements-lock.txt | sed 's/$/ packages in requirements-lock.txt/'
