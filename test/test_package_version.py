"""One version, which package.xml says, and the documents that name it."""

import datetime
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import yaml

import nvs_ros

ROOT = Path(__file__).resolve().parents[1]
VERSION = ElementTree.parse(ROOT / 'package.xml').findtext('version')
DOCUMENTS = ('CONTRIBUTING.md', 'SECURITY.md', 'CHANGELOG.md')


def releases():
    """Version and date of each release in the changelog, newest first."""
    text = (ROOT / 'CHANGELOG.md').read_text()
    found = re.findall(r'^## \[(\d[^\]]*)\] - (\S+)$', text, flags=re.MULTILINE)
    return [(version, datetime.date.fromisoformat(day)) for version, day in found]


def test_the_version_of_the_manifest_is_that_of_all():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    interfaces = ElementTree.parse(ROOT / 'nvs_interfaces/package.xml').findtext('version')
    assert re.fullmatch(r'\d+\.\d+\.\d+', VERSION)
    assert nvs_ros.__version__ == VERSION
    assert interfaces == VERSION
    assert citation['version'] == VERSION
    assert releases()[0][0] == VERSION


def test_setup_reads_the_version_and_writes_none():
    assert not re.search(r'\d+\.\d+\.\d+', (ROOT / 'setup.py').read_text())
    command = [sys.executable, 'setup.py', '--version']
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == VERSION


def test_the_citation_says_what_the_manifest_says():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    manifest = ElementTree.parse(ROOT / 'package.xml')
    assert citation['license'] == manifest.findtext('license')
    (author,) = citation['authors']
    assert author['name'] == manifest.findtext('maintainer')
    assert author['email'] == manifest.find('maintainer').get('email')
    assert citation['date-released'] == str(releases()[0][1])


def test_the_releases_are_in_order():
    def key(release):
        return tuple(map(int, release[0].split('.'))), release[1]

    assert releases() == sorted(releases(), key=key, reverse=True)


def test_the_documents_name_files_and_settings_that_are_there():
    """What the text writes as code and that looks like a path of the project."""
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        named = set(
            re.findall(r'`((?:nvs_ros|nvs_interfaces|test|config|docs|launch)/[^`*]*)`', text)
        )
        named |= set(re.findall(r'\]\(([^)#:]+)\)', text))
        missing = {name for name in named if not (ROOT / name).exists()}
        assert not missing, f'{document}: {missing}'


def test_what_security_names_is_in_the_settings():
    from nvs_ros.settings.text import parameter_fields

    text = ''.join((ROOT / document).read_text() for document in DOCUMENTS)
    prefixes = r'(?:input|sync|memory|model|views|requests|sampler)'
    named = set(re.findall(rf'`({prefixes}\.[a-z_]+)[:`]', text)) - {'sync.buffer'}
    assert {'sync.buffer_mb', 'requests.queue', 'input.objects'} <= named
    assert named <= set(parameter_fields())


def test_the_hooks_run_the_pinned_ruff():
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    revisions = {Path(repository['repo']).name: repository['rev'] for repository in hooks['repos']}
    pins = (ROOT / 'constraints.txt').read_text().splitlines()
    assert f'ruff=={revisions["ruff-pre-commit"].removeprefix("v")}' in pins
