"""The settings as text: ``config/nvs.yaml`` and the README's table, both generated.

``python -m nvs_ros.settings.text`` in the project folder writes them again; a test checks that they
are up to date.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from nvs_ros import settings

GROUPS: dict[str, type[settings.Settings]] = {
    '': settings.NodeSettings,
    'input': settings.InputSettings,
    'sync': settings.SyncSettings,
    'object': settings.ObjectSettings,
    'model': settings.ModelSettings,
    'views': settings.ViewSettings,
    'memory': settings.MemorySettings,
    'requests': settings.RequestSettings,
    'limits': settings.LimitSettings,
    'completion': settings.CompletionSettings,
    'sampler': settings.SamplerSettings,
}
"""Prefix of the parameter names -> group."""

TABLE_BEGIN, TABLE_END = '<!-- parameters: begin -->', '<!-- parameters: end -->'


def parameter_fields() -> dict[str, dataclasses.Field]:
    """Parameter name (such as ``sync.slop_s``) -> field of its group, in the order of the file."""
    return {
        f'{prefix}.{field.name}' if prefix else field.name: field
        for prefix, group in GROUPS.items()
        for field in dataclasses.fields(group)
    }


def constraints(field: dataclasses.Field) -> str:
    """Unit, range and choices of a field as text; ``''`` if it has none of them."""
    metadata = field.metadata
    low, high = metadata['low'], metadata['high']
    parts = [metadata['unit']] if metadata['unit'] else []
    if low is not None and high is not None:
        parts.append(f'{low:g} to {high:g}')
    elif low is not None or high is not None:
        parts.append(f'at least {low:g}' if high is None else f'at most {high:g}')
    if metadata['choices']:
        parts.append(' | '.join(map(str, metadata['choices'])))
    return ', '.join(parts)


def yaml_text() -> str:
    """Text of the parameter file with every default, for a node of any name."""
    lines = [
        '# Parameters of the node, with their defaults. Generated from nvs_ros/settings:',
        '# edit a copy and pass it as params_file. [r] can change while the node runs.',
        '/**:',
        '  ros__parameters:',
    ]
    for prefix, group in GROUPS.items():
        indent = '    ' if not prefix else '      '
        # Sampler fields that are not set come from the preset, so these lines are commented out.
        mark = '# ' if prefix == 'sampler' else ''
        if prefix:
            summary = (group.__doc__ or '').partition('\n')[0]
            lines += ['', f'    # {summary}']
            if mark:
                lines.append('    # Not set: as the preset says.')
            lines.append(f'    {mark}{prefix}:')
        for field in dataclasses.fields(group):
            note = f' ({constraints(field)})' if constraints(field) else ''
            runtime = ' [r]' if field.metadata['runtime'] else ''
            lines.append(f'{indent}# {field.metadata["description"]}{note}{runtime}')
            lines.append(f'{indent}{mark}{field.name}: {json.dumps(field.default)}')
    return '\n'.join(lines) + '\n'


def table_text() -> str:
    """The README's table of parameters in Markdown."""
    lines = ['| parameter | default | | what |', '|---|---|---|---|']
    for name, field in parameter_fields().items():
        limits = constraints(field).replace('|', '\\|')
        what = field.metadata['description'].replace('<', '&lt;')
        runtime = ' *(at run time)*' if field.metadata['runtime'] else ''
        lines.append(f'| `{name}` | `{json.dumps(field.default)}` | {limits} | {what}{runtime} |')
    return '\n'.join(lines) + '\n'


def with_table(text: str) -> str:
    """Return a Markdown text with the table between the two marks replaced."""
    before, _, rest = text.partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    return f'{before}{TABLE_BEGIN}\n{table_text()}{TABLE_END}{after}'


def write(root: Path) -> None:
    """Write ``config/nvs.yaml`` and the table in ``README.md`` under the project's folder."""
    (root / 'config').mkdir(exist_ok=True)
    (root / 'config' / 'nvs.yaml').write_text(yaml_text())
    readme = root / 'README.md'
    if readme.exists() and TABLE_BEGIN in readme.read_text():
        readme.write_text(with_table(readme.read_text()))


def by_group(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Group parameter values by prefix: ``{'sync.slop_s': 1}`` -> ``{'sync': {'slop_s': 1}}``."""
    groups: dict[str, dict[str, Any]] = {prefix: {} for prefix in GROUPS}
    for name, value in values.items():
        prefix, _, field = name.rpartition('.')
        groups[prefix][field] = value
    return groups


if __name__ == '__main__':
    write(Path.cwd())
