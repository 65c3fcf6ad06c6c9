"""Time and memory of loading and converting a checkpoint of the real size.

    nice -n 10 python benchmarks/load_full_size.py [--folder DIR]

Writes a checkpoint with the layout and the sizes of zero123-xl (UNet with 859.5 M parameters and
its moving average, VAE, CLIP ViT-L/14) and random weights, 8.6 GB, then measures each step in a
process of its own. Needs 16 GB of disk and, to write the checkpoint, 10 GB of memory.

"peak GB" is the highest resident memory of the process, "imports GB" what it had after importing
the libraries, "ratio" their difference over the size of the model. Measured on two cores that were
busy with other work:

| step | dtype | wall s | CPU s | model GB | peak GB | imports GB | ratio | with imports |
|---|---|---|---|---|---|---|---|---|
| load ckpt | float32 | 42 | 9 | 4.99 | 5.47 | 0.45 | 1.01 | 1.10 |
| load ckpt | float16 | 26 | 6 | 2.50 | 3.08 | 0.45 | 1.05 | 1.23 |
| convert ckpt | float32 | 77 | 26 | 0.00 | 3.94 | 0.45 | - | - |
| convert ckpt | float16 | 54 | 16 | 0.00 | 2.30 | 0.45 | - | - |
| load folder | float32 | 30 | 7 | 4.99 | 5.56 | 0.45 | 1.02 | 1.11 |
| load folder | float16 | 22 | 5 | 2.50 | 3.02 | 0.45 | 1.03 | 1.21 |
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

REPOSITORY = Path(__file__).parent.parent
sys.path.insert(0, str(REPOSITORY))
from nvs_ros.testing.golden import golden, rule_tensor  # noqa: E402

# Width in the golden checkpoint -> width in the real one; sizes that are not here stay.
UNET_FACTOR, VAE_FACTOR = 10, 4
CLIP_SIZES = {64: 1024, 192: 3072, 256: 4096, 100: 49408}
CLIP_LAYERS = 24
PARAMETERS = {'unet': 859_532_484, 'vae': 83_653_863, 'image_encoder': 303_966_208}

TITLES = (
    'step',
    'dtype',
    'wall s',
    'CPU s',
    'model GB',
    'peak GB',
    'imports GB',
    'ratio',
    'with imports',
)

MEASURE = """
import json, resource, sys, time
import torch
from pathlib import Path
from nvs_ros.zero123.components import load_components
from nvs_ros.zero123.convert import convert
from nvs_ros.zero123.layout import NETWORKS

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def busy():
    return time.process_time(), time.perf_counter()

step, source, dtype, output = sys.argv[1:]
dtype = getattr(torch, dtype)
imports, start, parameters = peak(), busy(), {}
if step == 'load':
    components = load_components(source, dtype=dtype)
    for name in NETWORKS:
        parameters[name] = sum(p.numel() for p in getattr(components, name).parameters())
else:
    convert(source, Path(output), dtype=dtype)
top, (cpu_s, wall_s) = peak(), (now - then for now, then in zip(busy(), start))
if step == 'load' and dtype == torch.float32:
    with torch.inference_mode():
        noise = components.unet(torch.zeros(1, 8, 32, 32), 501, torch.zeros(1, 1, 768)).sample
    assert torch.isfinite(noise).all()
found = dict(wall_s=wall_s, cpu_s=cpu_s, imports=imports, peak=top, parameters=parameters)
print(json.dumps(found))
"""


def real_shape(key: str, shape: list[int]) -> list[int]:
    """Shape in the real checkpoint of a tensor of the golden one."""
    if key.startswith('cc_projection.'):
        return shape
    if key.startswith('cond_stage_model.'):
        return [CLIP_SIZES.get(size, size) for size in shape]
    factor = VAE_FACTOR if key.startswith('first_stage_model.') else UNET_FACTOR
    # Channels of pictures and latents, kernel sizes and the context stay.
    return [size if size < 32 or size == 768 else size * factor for size in shape]


def real_manifest() -> dict[str, list[int]]:
    """Names and shapes of the real checkpoint."""
    manifest = {key: real_shape(key, shape) for key, shape in golden()['manifest'].items()}
    for key in [key for key in manifest if '.resblocks.1.' in key]:
        for layer in range(2, CLIP_LAYERS):
            manifest[key.replace('.resblocks.1.', f'.resblocks.{layer}.')] = manifest[key]
    return manifest


def write_checkpoint(path: Path) -> None:
    state = {key: rule_tensor(key, shape) for key, shape in real_manifest().items()}
    torch.save({'state_dict': state, 'global_step': 1}, path)


def measure(step: str, source: Path, dtype: str, output: Path = Path()) -> None:
    """Run one step in a process of its own and print a row of the table."""
    command = [sys.executable, '-c', MEASURE, step, source, dtype, output]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, text=True)
    found = json.loads(done.stdout)
    size = sum(found['parameters'].values()) * getattr(torch, dtype).itemsize
    for name, count in found['parameters'].items():
        assert PARAMETERS.get(name, count) == count, f'{name}: {count}'
    ratio = f'{(found["peak"] - found["imports"]) / size:.2f}' if size else '-'
    total = f'{found["peak"] / size:.2f}' if size else '-'
    seconds = [f'{found[clock]:.0f}' for clock in ('wall_s', 'cpu_s')]
    gigabytes = [f'{value / 1e9:.2f}' for value in (size, found['peak'], found['imports'])]
    kind = 'folder' if source.is_dir() else 'ckpt'
    cells = (f'{step} {kind}', dtype, *seconds, *gigabytes, ratio, total)
    print('| ' + ' | '.join(cells) + ' |', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--folder', type=Path, help='where to write; kept (default: temporary)')
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        checkpoint = folder / 'zero123-xl.ckpt'
        if not checkpoint.exists():
            # In a process of its own: what it needs must not count for this one's children.
            code = f'import load_full_size; load_full_size.write_checkpoint({str(checkpoint)!r})'
            subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parent, check=True)
        print('| ' + ' | '.join(TITLES) + ' |')
        print('|---' * len(TITLES) + '|', flush=True)
        for dtype in ('float32', 'float16'):
            measure('load', checkpoint, dtype)
        for dtype in ('float32', 'float16'):
            measure('convert', checkpoint, dtype, folder / dtype)
        for dtype in ('float32', 'float16'):
            measure('load', folder / dtype, dtype)


if __name__ == '__main__':
    main()
