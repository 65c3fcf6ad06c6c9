"""docs/method.md names code that exists and settings that exist."""

import importlib
import inspect
import pkgutil
import re
from dataclasses import fields
from pathlib import Path

import pytest

import nvs_ros.hero
from nvs_ros.settings import SamplerSettings

PAGE = (Path(__file__).parents[1] / 'docs' / 'method.md').read_text()
MODULES = {
    module.name: importlib.import_module(f'nvs_ros.hero.{module.name}')
    for module in pkgutil.iter_modules(nvs_ros.hero.__path__)
}
CLASSES = {
    name: value
    for module in MODULES.values()
    for name, value in inspect.getmembers(module, inspect.isclass)
}
NAMES = sorted(
    name
    for name in set(re.findall(r'`((?:\w+\.)+\w+)`', PAGE))
    if name.split('.')[0] in MODULES | CLASSES
)


@pytest.mark.parametrize('name', NAMES)
def test_named_code_exists(name):
    first, *rest = name.split('.')
    owner = MODULES.get(first) or CLASSES[first]
    for part in rest:
        if inspect.isclass(owner) and not hasattr(owner, part):
            assert re.search(rf'\b{part}\b: |self\.{part}\b', inspect.getsource(owner)), name
            return
        owner = getattr(owner, part)


def test_every_setting_stands_on_the_page():
    assert len(NAMES) > 20
    for field in fields(SamplerSettings):
        assert re.search(rf'`[^`\n]*\b{field.name}\b', PAGE), field.name
