#!/usr/bin/env bash
# Run one chunk of a training on a machine with a GPU and PyTorch, without ROS and network.
#
#   scripts/train_gpu.sh RUN [OPTIONS of `python -m nvs_ros train`]
#
# Call it again on the same machine until the recipe is finished: RUN (an ignored folder, such as
# runs/gpu) keeps the state between chunks. Paths are relative to the repository. Each chunk writes
# plots to OUT, and the averaged weights in float16 as model.tar.00, model.tar.01, ... of at most
# 14 MiB; `cat model.tar.* | tar -x` unpacks the model. The progress bar shows the steps per second:
# choose `--steps N` to fit the last stage to the remaining time, as long as its learning rate has
# not begun to fall.
#
#   LIMIT   seconds that the call may take                      540
#   OUT     folder for results                                  RUN/out
#   CONFIG  recipe                                              config/training_gpu.yaml
#   WHEELS  folder of wheels that the machine lacks, from scripts/fetch_wheels.sh
#   PYTHON  the Python that has PyTorch                         python3
set -euo pipefail

run=${1:?"RUN, the folder of the training, is missing"}
shift
limit=${LIMIT:-540}
out=${OUT:-$run/out}
python=${PYTHON:-python3}
# Seconds for the last checkpoint, the model and the archive.
reserve=30

cd "$(dirname "$0")/.."
mkdir -p "$run" "$out"
if [[ -n ${WHEELS:-} && ! -d $run/site ]]; then
  "$python" -m pip install --quiet --no-index --no-deps --target "$run/site" "$WHEELS"/*.whl
fi
export PYTHONPATH=$run/site:$PWD${PYTHONPATH:+:$PYTHONPATH}
"$python" - <<'EOF'
import importlib.util
names = 'torch diffusers transformers numba cv2 scipy matplotlib yaml safetensors tqdm PIL'.split()
missing = [name for name in names if importlib.util.find_spec(name) is None]
if missing:
    raise SystemExit(f'this Python lacks {", ".join(missing)}: see WHEELS in scripts/train_gpu.sh')
EOF

"$python" -m nvs_ros train --config "${CONFIG:-config/training_gpu.yaml}" --output "$run" \
  --time-limit $((limit - reserve - SECONDS)) "$@"

find "$out" -maxdepth 1 \( -name 'model.tar.*' -o -name '*.png' \) -delete
if [[ -d $run/model ]]; then
  tar -c -C "$run" model | split --bytes 14M --numeric-suffixes - "$out/model.tar."
fi
for stage in autoencoder diffusion; do
  for kind in loss samples; do
    newest=$(ls -t "$run/${stage}_$kind"*.png 2>/dev/null | head -n 1 || true)
    [[ -z $newest ]] || cp "$newest" "$out/"
  done
  [[ ! -f $run/${stage}_loss.csv ]] || echo "$stage: step, loss: $(tail -n 1 "$run/${stage}_loss.csv")"
done
du --bytes --summarize "$out"
