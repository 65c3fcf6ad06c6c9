#!/bin/bash
# All benchmarks of a GPU in one call: full-size model with random weights, first and following
# view, batches, peak memory, the comparison with plain diffusers, and evaluations as CUDA graphs
# and with the Triton kernel.
#
#     benchmarks/gpu.sh [OUT]           results go to OUT (default out/gpu)
#     WHEELS=dir benchmarks/gpu.sh      installs missing packages from wheels, without a network
#
# Needs Python 3.10 or later and torch with CUDA; neither ROS nor weights. The other parts run even
# if one fails; the exit status is 1 then. It has not run on a GPU yet.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-out/gpu}
python=${PYTHON:-python3}
mkdir -p "$out"
if [ -n "${WHEELS:-}" ]; then  # a folder from scripts/fetch_wheels.sh
  "$python" -m pip install --quiet --no-index --no-deps --target "$out/site" "$WHEELS"/*.whl || exit 1
  export PYTHONPATH=$PWD/$out/site${PYTHONPATH:+:$PYTHONPATH}
fi
"$python" -c 'import torch; assert torch.cuda.is_available(), "no CUDA"' || exit 1
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$PWD/$out/inductor}
failed=0

part() {  # NAME COMMAND...: also writes its output to OUT/NAME.txt
  local name=$1
  shift
  echo "== $name: $*"
  "$@" 2>&1 | tee "$out/$name.txt" || failed=1
}

bench=("$python" -m nvs_ros bench --model full-random --device cuda)
plain=("$python" benchmarks/reference.py --model full-random --device cuda --pairs 3)
part smoke "${bench[@]}" --quick --presets zero-to-hero --batches 1
part bench "${bench[@]}" --repeats 3 --json "$out/bench.json"
part reference-1 "${plain[@]}" --views 1 --json "$out/reference-1.json"
part reference-8 "${plain[@]}" --views 8 --json "$out/reference-8.json"
part compiled "${bench[@]}" --compile --presets resample,zero-to-hero --json "$out/compiled.json"
part compiled-1 "${plain[@]}" --compile --views 1 --json "$out/compiled-1.json"
part bfloat16 "${bench[@]}" --dtype bfloat16 --presets resample,zero-to-hero \
  --json "$out/bfloat16.json"
capture=("$python" benchmarks/capture.py --model full-random --device cuda --dtype float16)
part capture-1 "${capture[@]}" --views 1 --json "$out/capture-1.json"
part capture-8 "${capture[@]}" --views 8 --json "$out/capture-8.json"
exit $failed
