"""Cache and download of public checkpoints, against a hub on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nvs_ros.testing.golden import write_golden
from nvs_ros.zero123.hub import PUBLIC_MODELS

COMMIT = '0123456789abcdef0123456789abcdef01234567'


class Hub(BaseHTTPRequestHandler):
    """The few addresses of the hub that a download asks for."""

    files = {}  # path below the repository -> content
    listed = {}  # path -> sha256 that the listing states, where it states one

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = self.path.split('?')[0].strip('/')
        headers = {}
        if path.startswith('api/models/'):
            siblings = [
                {'rfilename': name, 'size': len(content)}
                | ({'lfs': self.lfs(name, content)} if name in self.listed else {})
                for name, content in self.files.items()
            ]
            repository, _, revision = path.removeprefix('api/models/').partition('/revision/')
            sha = revision or COMMIT
            body = json.dumps({'id': repository, 'sha': sha, 'siblings': siblings}).encode()
        else:
            revision, _, name = path.partition('/resolve/')[2].partition('/')
            sha = COMMIT if revision == 'main' else revision
            body = self.files.get(name)
            if body is None:
                self.send_error(404)
                return
            etag = hashlib.sha256(body).hexdigest()
            headers = {'X-Repo-Commit': sha, 'ETag': f'"{etag}"'}
        self.send_response(200)
        for name, value in ({'Content-Length': str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def lfs(self, name, content):
        return {'size': len(content), 'sha256': self.listed[name], 'pointerSize': 100}

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(('127.0.0.1', 0), type('ThisHub', (Hub,), {}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f'http://127.0.0.1:{server.server_port}'
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def run(code, tmp_path, url='http://127.0.0.1:1', **more):
    """Run in a process of its own: the client reads its environment when it is imported."""
    variables = {'HF_ENDPOINT': url, 'HF_HOME': str(tmp_path / 'cache'), **more}
    return subprocess.run(
        [sys.executable, *code], env={**os.environ, **variables}, capture_output=True, text=True
    )


def fetch(name, *args, **kwargs):
    return run(['-m', 'nvs_ros', 'fetch', name], *args, **kwargs)


LOAD = 'from nvs_ros.zero123.components import load_components as load; print(load({!r}).kind)'
FIND = 'from nvs_ros.zero123.hub import cached_model; print(cached_model({!r}))'


def assert_one_line(result, *words):
    assert result.returncode == 2
    assert result.stderr.count('\n') == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_a_fetched_checkpoint_is_verified_and_loads_without_a_network(hub, tmp_path):
    content = write_golden(tmp_path / 'model.ckpt', average=False).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    hub.RequestHandlerClass.files = {'zero123-xl.ckpt': content, 'run.py': b'no'}
    hub.RequestHandlerClass.listed = {'zero123-xl.ckpt': digest}
    result = fetch('zero123-xl', tmp_path, hub.url)
    assert result.returncode == 0, result.stderr
    assert f'zero123-xl.ckpt: sha256 {digest} verified' in result.stdout
    result = run(['-c', LOAD.format('zero123-xl')], tmp_path, HF_HUB_OFFLINE='1')
    assert result.stdout == 'zero123-xl\n', result.stderr


def test_a_fetched_folder(hub, tmp_path):
    weights = {f'{name}/model.safetensors': name.encode() for name in ('unet', 'vae')}
    hub.RequestHandlerClass.files = {
        'model_index.json': b'{}',
        'pipeline_zero1to3.py': b'raise SystemExit',
        'unet/model.bin': b'the same in a pickle',
        **weights,
    }
    hub.RequestHandlerClass.listed = {
        name: hashlib.sha256(content).hexdigest() for name, content in weights.items()
    }
    result = fetch('zero123-xl-diffusers', tmp_path, hub.url)
    assert result.returncode == 0, result.stderr
    assert 'model_index.json: no sha256 is known' in result.stdout
    revision = PUBLIC_MODELS['zero123-xl-diffusers'].revision
    assert f'revision {revision}' in result.stdout
    folder = next((tmp_path / 'cache').rglob(f'snapshots/{revision}'))
    assert f'is in {folder};' in result.stdout
    found = {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}
    assert found == {'model_index.json', *weights}


def test_a_revision_can_be_pinned(hub, tmp_path):
    """One model of two revisions: what is asked for is fetched, and found again."""
    other = COMMIT[::-1]
    for revision, content in ((COMMIT, b'first'), (other, b'second')):
        hub.RequestHandlerClass.files = {'zero123-xl.ckpt': content}
        result = fetch(f'zero123-xl@{revision}', tmp_path, hub.url)
        assert result.returncode == 0, result.stderr
        assert f'cvlab/zero123-weights: revision {revision}' in result.stdout
    for revision, content in ((COMMIT, b'first'), (other, b'second')):
        found = run(['-c', FIND.format(f'zero123-xl@{revision}')], tmp_path)
        assert Path(found.stdout.strip()).read_bytes() == content
    missing = run(['-c', FIND.format(f'zero123-xl@{COMMIT[:-1]}f')], tmp_path)
    assert f'python -m nvs_ros fetch zero123-xl@{COMMIT[:-1]}f' in missing.stderr


def test_a_file_that_is_not_what_the_hub_lists_is_removed(hub, tmp_path):
    hub.RequestHandlerClass.files = {'105000.ckpt': b'something else'}
    hub.RequestHandlerClass.listed = {'105000.ckpt': hashlib.sha256(b'the original').hexdigest()}
    result = fetch('zero123-105000', tmp_path, hub.url)
    assert result.returncode == 2
    message = result.stderr.strip().splitlines()[-1]  # after the client's progress bar
    assert message.startswith('nvs_ros fetch: 105000.ckpt: expected sha256')
    assert not [path for path in (tmp_path / 'cache').rglob('*') if path.name == '105000.ckpt']
    assert b'something else' not in [
        path.read_bytes() for path in (tmp_path / 'cache').rglob('blobs/*') if path.is_file()
    ]


def test_without_a_network_one_line(tmp_path):
    assert_one_line(
        fetch('zero123-xl', tmp_path), 'zero123-xl: cannot download from http://127.0.0.1:1/cvlab'
    )


def test_the_offline_flag_is_respected(hub, tmp_path):
    result = fetch('zero123-xl', tmp_path, hub.url, HF_HUB_OFFLINE='1')
    assert_one_line(result, 'cannot download', 'offline')


def test_a_checkpoint_that_the_hub_does_not_have(hub, tmp_path):
    result = fetch('zero123-xl', tmp_path, hub.url)
    assert_one_line(result, 'cvlab/zero123-weights: expected zero123-xl.ckpt, found none')


def test_an_unknown_name(tmp_path):
    assert_one_line(fetch('zero124', tmp_path), 'expected one of zero123-xl,', "got 'zero124'")


def test_loading_never_downloads(hub, tmp_path):
    hub.RequestHandlerClass.files = {'zero123-xl.ckpt': b'x'}
    hub.RequestHandlerClass.listed = {'zero123-xl.ckpt': hashlib.sha256(b'x').hexdigest()}
    for source, advice in (
        ('zero123-xl', 'python -m nvs_ros fetch zero123-xl'),
        ('kxic/zero123-xl', 'hf download kxic/zero123-xl'),
        ('kxic/zero123-xl@abc', 'hf download kxic/zero123-xl --revision abc'),
    ):
        result = run(['-c', FIND.format(source)], tmp_path, hub.url)
        assert result.returncode == 1
        assert advice in result.stderr
    assert not list((tmp_path / 'cache').rglob('*.ckpt'))
