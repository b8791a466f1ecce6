"""Listing, fetching, describing, verifying and publishing weights."""

from __future__ import annotations

import json
import re

import pytest
import torch

from helpers import public_layouts
from helpers.servers import FileServer
from helpers.tool_runs import TINY_CLASSIFIER, run_tool
from mmeffvit import get_model
from mmeffvit.checkpoints import read_weights
from mmeffvit.checkpoints.download import sha256_of
from mmeffvit.checkpoints.index import PublishedFile, published_files
from mmeffvit.models import build_model


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror that has one file of the index, and a cache of its own."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    state = public_layouts.quadtree(get_model('quadtree_b0').state_dict())
    state.update({'head.weight': torch.zeros(1000, 256), 'head.bias': torch.zeros(1000)})
    torch.save(dict(model=state, optimizer={}), tmp_path / 'b0.pth')
    server = FileServer()
    server.files['/quadtree_b0.pth'] = (tmp_path / 'b0.pth').read_bytes()
    with server.run() as address:
        monkeypatch.setenv('MMEFFVIT_WEIGHTS', address)
        yield server


def run(monkeypatch, capsys, *arguments, code=0):
    capsys.readouterr()
    assert run_tool(monkeypatch, 'weights.py', *arguments) == code
    return capsys.readouterr()


def test_list(monkeypatch, capsys):
    said = run(monkeypatch, capsys, 'list').out
    assert all(name in said for name in published_files())
    said = run(monkeypatch, capsys, 'list', 'retinanet*').out
    assert 'box AP 46.2' in said and 'maskrcnn' not in said
    assert "match 'no*'" in run(monkeypatch, capsys, 'list', 'no*', code=2).err


def test_get_copies_what_stands_in_for_the_network(monkeypatch, capsys, mirror, tmp_path):
    said = run(monkeypatch, capsys, 'get', 'quadtree_b0', '--out', tmp_path / 'weights').out
    path = tmp_path / 'weights/quadtree_b0.pth'
    assert sha256_of(path) == sha256_of(tmp_path / 'b0.pth') and sha256_of(path) in said
    monkeypatch.setenv('MMEFFVIT_WEIGHTS', str(path.parent))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'other'))
    assert len(read_weights('mmeffvit://quadtree_b0')) > 100
    assert len(mirror.requests) == 1


def test_get_fails_in_one_line(monkeypatch, capsys, mirror):
    said = run(monkeypatch, capsys, 'get', 'quadtree_b1', code=2).err
    assert 'HTTP Error 404' in said and 'put the file by hand at' in said
    assert 'Traceback' not in said and said.count('error:') == 1
    said = run(monkeypatch, capsys, 'get', 'quadtree_b01', code=2).err
    assert 'did you mean quadtree_b' in said


def test_info_of_a_name_and_of_a_file(monkeypatch, capsys, mirror, tmp_path):
    said = run(monkeypatch, capsys, 'info', 'quadtree_b0').out
    assert 'published: top-1 72.0' in said and 'licence: MIT' in said and 'not here' in said
    run(monkeypatch, capsys, 'get', 'quadtree_b0')
    for source in ('quadtree_b0', tmp_path / 'b0.pth'):
        said = run(monkeypatch, capsys, 'info', source).out
        assert 'family of the file: quadtree\n' in said and 'part of the file: classifier' in said
        assert "arch: QuadTreeTransformer {'embed_dims': (32, 64, 160, 256)" in said
        assert 'classes: 1000' in said and 'dtype: float32' in said
        assert f'SHA-256: {sha256_of(tmp_path / "b0.pth")}' in said
    (converted,) = (tmp_path / 'home/hub/mmeffvit/converted').iterdir()
    said = run(monkeypatch, capsys, 'info', converted).out
    assert 'mmeffvit (converted from quadtree)' in said
    assert 'tools/weights.py list' in run(monkeypatch, capsys, 'info', 'no.pth', code=2).err


def test_verify_names_what_is_damaged(monkeypatch, capsys, mirror, tmp_path):
    assert '0 of 0 files' in run(monkeypatch, capsys, 'verify').out
    assert 'is not here' in run(monkeypatch, capsys, 'verify', 'quadtree_b0', code=2).err
    run(monkeypatch, capsys, 'get', 'quadtree_b0')
    assert 'quadtree_b0: as first seen' in run(monkeypatch, capsys, 'verify').out
    path = tmp_path / 'home/hub/mmeffvit/published/quadtree_b0.pth'
    path.write_bytes(path.read_bytes()[:-1] + b'x')
    said = run(monkeypatch, capsys, 'verify', code=1)
    assert '0 of 1 files' in said.out and re.search(r'wrong: .*quadtree_b0\.pth has the', said.err)


@pytest.fixture
def trained(tmp_path):
    """A training checkpoint of a tiny classifier, and its config."""
    pytest.importorskip('mmpretrain')
    config = tmp_path / 'tiny.py'
    config.write_text(TINY_CLASSIFIER)
    meta = dict(epoch=3, iter=9, cfg='data_root = "/home/me"', experiment_name='me')
    meta['dataset_meta'] = dict(classes=[f'kind {i}' for i in range(8)])
    state = build_model(config).state_dict()
    optimizer = dict(state={0: dict(momentum_buffer=torch.ones(9))}, param_groups=[])
    path = tmp_path / 'epoch_3.pth'
    torch.save(dict(state_dict=state, meta=meta, optimizer=optimizer, message_hub={}), path)
    return path, config


def test_publish(monkeypatch, capsys, trained, tmp_path):
    path, config = trained
    out = tmp_path / 'out/tiny.safetensors'
    arguments = [path, out, '--config', config, '--metric', 'top-1=50']
    assert run_tool(monkeypatch, 'publish.py', *arguments) == 0
    said = capsys.readouterr().out
    (written,) = out.parent.iterdir()
    assert re.fullmatch(r'tiny-[0-9a-f]{8}\.safetensors', written.name)
    assert sha256_of(written).startswith(written.stem[-8:])
    content = written.read_bytes()
    assert b'/home/me' not in content and b'momentum' not in content
    weights = read_weights(written)
    assert weights.keys() == read_weights(path).keys()
    assert weights.meta['epoch'] == 3 and len(weights.meta['dataset_meta']['classes']) == 8
    name, entry = json.loads('{' + said.splitlines()[-1] + '}').popitem()
    entry['configs'] = tuple(entry['configs'])
    file = PublishedFile(name=name, **entry)
    assert (file.family, file.part, file.configs) == ('mmeffvit', 'classifier', ('tiny',))
    assert file.sha256 == sha256_of(written) and file.figures == 'top-1 50.0'


def test_publish_refuses_what_is_not_whole(monkeypatch, capsys, trained, tmp_path):
    path, config = trained
    torch.save(dict(state_dict={'head.fc.bias': torch.zeros(8)}), path)
    out = tmp_path / 'out/tiny.safetensors'
    for arguments, message in (
        ([path, out, '--config', config], 'The weights are not those of this ImageClassifier'),
        ([path, tmp_path / 'tiny.pth'], r'must end in \.safetensors'),
        ([path, out, '--metric', 'top-1'], 'must be NAME=VALUE, such as top-1=82.7'),
        (['no.pth', out], r'no\.pth does not exist'),
    ):
        assert run_tool(monkeypatch, 'publish.py', *arguments) == 2
        said = capsys.readouterr().err
        assert re.search(message, said) and 'Traceback' not in said
    assert not out.parent.exists()
