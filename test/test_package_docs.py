"""The documentation: links lead somewhere, and the site has every page once."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())
PAGES = sorted((ROOT / 'docs').rglob('*.md'))
LINK = re.compile(r'\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]+)?\)')


def literal(file, name):
    """A constant of a program that needs MkDocs to be imported."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f'{file}: expected {name}')


BESIDE = literal(ROOT / 'scripts/docs_pages.py', 'PAGES')
DOCUMENTS = [*PAGES, *(ROOT / name for name in BESIDE)]


def anchors(file):
    """What headings are called in a link, as GitHub and the site have it."""
    headings = re.findall(r'^#+ (.+)$', file.read_text(), flags=re.MULTILINE)
    words = (re.sub(r'[^\w\s-]', '', heading).strip().lower() for heading in headings)
    return {re.sub(r'\s', '-', text) for text in words}


@pytest.mark.parametrize('file', DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(file):
    for target, anchor in LINK.findall(file.read_text()):
        found = file.parent / target if target else file
        assert found.exists(), f'{file.name}: {target}'
        if anchor:
            assert anchor.removeprefix('#') in anchors(found), f'{file.name}: {target}{anchor}'


def pages_of(entry):
    """The pages of a part of the navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in pages_of(part)]


def test_every_page_is_in_the_navigation_once():
    written = [str(page.relative_to(ROOT / 'docs')) for page in PAGES]
    assert sorted(pages_of(SITE['nav'])) == sorted([*written, *BESIDE.values()])
    assert all((ROOT / name).is_file() for name in BESIDE)


def test_the_pages_of_the_api_name_what_is_there():
    """Where a page chooses members, the module has them."""
    text = '\n'.join(page.read_text() for page in (ROOT / 'docs/api').glob('*.md'))
    blocks = re.findall(
        r'^::: (\S+)\n(?:    options:\n      members: \[(.*)\])?', text, re.MULTILINE
    )
    assert {'nvs_ros.synthesizer', 'nvs_ros.geometry', 'nvs_ros.hero'} <= {
        name for name, _ in blocks
    }
    for name, members in blocks:
        __import__(name)
        for member in filter(None, members.split(', ')):
            assert hasattr(sys.modules[name], member), f'{name}.{member}'


def test_the_docs_are_pinned():
    lines = (ROOT / 'requirements-docs.txt').read_text().splitlines()
    pins = dict(line.split('==') for line in lines if not line.startswith('#'))
    assert {'mkdocs', 'mkdocs-material', 'mkdocstrings', 'mkdocstrings-python'} <= set(pins)
    assert f'ruff=={pins["ruff"]}' in (ROOT / 'constraints.txt').read_text().splitlines()
