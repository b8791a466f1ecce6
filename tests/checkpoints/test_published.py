"""Published weights over a server on this machine: fetched once, checked, converted, kept."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint_with_prefix

from helpers import malice, public_layouts
from helpers.servers import FileServer
from helpers.tool_runs import ROOT
from mmeffvit import get_model
from mmeffvit.backbones import QuadTreeTransformer, SlideSwin, SwinTransformer
from mmeffvit.checkpoints import CheckpointError, load_weights, read_weights
from mmeffvit.checkpoints import download as downloads
from mmeffvit.checkpoints import index as index_module
from mmeffvit.checkpoints.index import PublishedFile
from mmeffvit.checkpoints.published import cached_file, obtain, remembered

ARCH = dict(embed_dims=(8, 16, 40, 64), depths=(1, 1, 1, 1), num_heads=(1, 2, 5, 8))
ARCH['mlp_ratios'] = (2, 2, 2, 2)
NAME = 'mmeffvit://tiny'


def tiny(seed: int = 0) -> QuadTreeTransformer:
    torch.manual_seed(seed)
    return QuadTreeTransformer(ARCH)


def public(model, classes: int = 3) -> dict:
    head = {'head.weight': torch.ones(classes, 64), 'head.bias': torch.zeros(classes)}
    return {**public_layouts.quadtree(model.state_dict()), **head}


def as_bytes(content, tmp_path) -> bytes:
    torch.save(content, tmp_path / 'content.pth')
    return (tmp_path / 'content.pth').read_bytes()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A cache of its own, an index of one file, and the server that has it."""
    for name in ('MMEFFVIT_WEIGHTS', 'MMEFFVIT_OFFLINE', 'HF_HUB_OFFLINE'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    monkeypatch.setattr(downloads, 'PAUSE', 0)
    server = FileServer()
    server.files['/w.pth'] = as_bytes(dict(model=public(tiny()), epoch=3), tmp_path)
    server.etags['/w.pth'] = '"one"'
    with server.run() as address:
        entry = PublishedFile(
            'tiny', 'quadtree', 'classifier', 'tests', 'https://example.org', f'{address}/w.pth'
        )
        files = {'tiny': entry}
        monkeypatch.setattr(index_module, 'published_files', lambda: files)
        yield argparse.Namespace(
            server=server, address=address, files=files, folder=tmp_path, entry=entry
        )


def change(place, **options) -> PublishedFile:
    place.files['tiny'] = replace(place.files['tiny'], **options)
    return place.files['tiny']


def refused(match: str) -> str:
    with pytest.raises(CheckpointError, match=match) as caught:
        read_weights(NAME)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def left_behind(place) -> list[str]:
    folder = cached_file(place.entry).parent
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# Loading


def test_it_is_downloaded_once_and_converted_once(place, monkeypatch):
    wanted = tiny().state_dict()
    for _ in range(2):
        weights = read_weights(NAME)
        assert {k for k in weights if not k.startswith('backbone.')} == {
            'head.fc.weight',
            'head.fc.bias',
        }
        assert all(torch.equal(weights[f'backbone.{k}'], v) for k, v in wanted.items())
    assert len(place.server.requests) == 1
    assert weights.origin == f'{NAME} ({place.entry.url})'
    assert weights.meta['config']['type'] == 'QuadTreeTransformer'
    assert len(list((place.folder / 'home/hub/mmeffvit/converted').iterdir())) == 1
    assert left_behind(place) == ['tiny.pth']
    monkeypatch.setattr('mmeffvit.checkpoints.published.convert', None)
    monkeypatch.setenv('MMEFFVIT_OFFLINE', '1')
    assert load_weights(tiny(1), NAME).is_exact


class Wrapper(BaseModule):
    def __init__(self, init_cfg):
        super().__init__()
        self.backbone = QuadTreeTransformer(ARCH, init_cfg=init_cfg)


@pytest.mark.parametrize('prefix', [{}, {'prefix': 'backbone'}, {'prefix': 'backbone.'}])
def test_init_cfg_with_and_without_prefix(place, prefix):
    model = Wrapper(dict(type='Pretrained', checkpoint=NAME, **prefix))
    model.init_weights()
    found, wanted = model.backbone.state_dict(), tiny().state_dict()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_the_functions_of_mmengine(place):
    assert 'state_dict' in CheckpointLoader.load_checkpoint(NAME, map_location='cpu')
    assert _load_checkpoint_with_prefix('head', NAME).keys() == {'fc.weight', 'fc.bias'}
    model = tiny(1)
    load_checkpoint(model, NAME, map_location='cpu')
    assert torch.equal(model.stages[0].norm.weight, tiny().stages[0].norm.weight)


@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: dict(model=state, args=argparse.Namespace(lr=1.0), optimizer={'lr': 1.0}),
        lambda state: dict(
            state_dict_ema=state,
            state_dict={key: torch.zeros_like(value) for key, value in state.items()},
            args=argparse.Namespace(model='quadtree'),
            version=2,
        ),
        lambda state: {
            'pytorch-lightning_version': '1.3.5',
            'state_dict': {
                'loss.weight': torch.zeros(1),
                **{f'model.{key}': value for key, value in state.items()},
            },
        },
        lambda state: {'module.' + key: value for key, value in state.items()},
    ],
    ids=['bare', 'argparse', 'timm', 'lightning', 'module'],
)
def test_wrappers_of_training_scripts(place, wrap):
    place.server.files['/w.pth'] = as_bytes(wrap(public(tiny())), place.folder)
    assert load_weights(tiny(1), NAME).is_exact


def test_a_detector_of_mmdet_2_keeps_its_classes(place):
    state = {f'backbone.{k}': v for k, v in public(tiny()).items() if not k.startswith('head')}
    state['neck.lateral_convs.0.conv.weight'] = torch.ones(2)
    meta = dict(CLASSES=('cat', 'dog'), PALETTE=[(1, 2, 3), (4, 5, 6)], config='model = dict()')
    content = dict(meta=meta, state_dict=state, optimizer=dict(state={}, param_groups=[]))
    place.server.files['/w.pth'] = as_bytes(content, place.folder)
    weights = read_weights(NAME)
    assert 'neck.lateral_convs.0.conv.weight' in weights
    assert weights.meta['dataset_meta'] == dict(
        classes=['cat', 'dog'], palette=[[1, 2, 3], [4, 5, 6]]
    )


def test_another_model_starts_from_it(place):
    torch.manual_seed(0)
    arch = dict(embed_dims=32, depths=(2, 2, 2, 1), num_heads=(1, 2, 4, 8))
    swin = SwinTransformer(arch)
    place.server.files['/w.pth'] = as_bytes(
        dict(model=public_layouts.swin(swin.state_dict())), place.folder
    )
    change(place, family='swin')
    loaded = load_weights(SlideSwin(arch), f'{NAME}/swin_to_slide')
    assert loaded.is_exact
    with pytest.raises(CheckpointError, match=r"'slide' is no key map; mmeffvit://tiny has 'swin'"):
        read_weights(f'{NAME}/slide')


def test_a_file_of_another_size_is_named(place):
    b0, b1 = (public_layouts.layout_of(index_of(f'quadtree_b{n}')) for n in (0, 1))
    state = {key: torch.zeros(value.shape, dtype=torch.bfloat16) for key, value in b1.items()}
    place.server.files['/w.pth'] = as_bytes(state, place.folder)
    change(place, model='quadtree_b0')
    refused('should be a quadtree_b0, but has the widths and depths of quadtree_b1: the address')
    assert b0.keys() == b1.keys()


def index_of(name):
    content = json.loads(Path(index_module.__file__).with_name('published.json').read_text())
    return PublishedFile(name=name, **content[name])


def test_a_file_of_another_family_is_one_sentence(place):
    place.server.files['/w.pth'] = as_bytes({'conv1.weight': torch.ones(1)}, place.folder)
    refused('is not tiny of https://example.org: No key is one of the QuadTreeAttention')


def test_a_file_that_lacks_a_tensor_is_refused(place):
    state = public(tiny())
    del state['norm4.weight']
    place.server.files['/w.pth'] = as_bytes(state, place.folder)
    refused(r'1 tensors differ, stages\.3\.norm\.weight')


def test_our_own_files_are_taken_as_they_are(place):
    place.server.files['/w.pth'] = as_bytes(dict(state_dict=tiny().state_dict()), place.folder)
    change(place, family='mmeffvit')
    assert load_weights(tiny(1), NAME).is_exact


def test_a_malicious_file_is_refused_and_not_run(place):
    mark = place.folder / 'mark'
    malice.write_zip(place.folder / 'evil.pth', mark, public(tiny()))
    place.server.files['/w.pth'] = (place.folder / 'evil.pth').read_bytes()
    refused(r'posix\.system')
    assert not mark.exists()


# Downloading


def test_a_cut_download_goes_on_where_it_was_cut(place):
    content = place.server.files['/w.pth']
    place.server.cuts = [50_000, 30_000]
    assert load_weights(tiny(1), NAME).is_exact
    ranges = [wanted for _, wanted in place.server.requests]
    assert ranges == [None, 'bytes=50000-', 'bytes=80000-']
    assert place.server.sent == len(content)


def test_what_a_killed_process_left_is_completed(place):
    content, path = place.server.files['/w.pth'], cached_file(place.entry)
    path.parent.mkdir(parents=True)
    partial = path.with_name('.tiny.pth.part')
    partial.write_bytes(content[:40_000])
    note = dict(url=place.entry.url, validator='"one"')
    partial.with_name('.tiny.pth.part.json').write_text(json.dumps(note))
    assert load_weights(tiny(1), NAME).is_exact
    assert place.server.requests == [('/w.pth', 'bytes=40000-')]
    assert left_behind(place) == ['tiny.pth']


@pytest.mark.parametrize('note', [None, '"two"', 'no json', 'whole'])
def test_a_part_of_another_file_is_not_completed(place, note):
    path = cached_file(place.entry)
    path.parent.mkdir(parents=True)
    partial = path.with_name('.tiny.pth.part')
    partial.write_bytes(b'x' * (10**7 if note == 'whole' else 40_000))
    if note is not None:
        validator = '"one"' if note == 'whole' else note
        text = (
            note
            if note == 'no json'
            else json.dumps(dict(url=place.entry.url, validator=validator))
        )
        partial.with_name('.tiny.pth.part.json').write_text(text)
    assert load_weights(tiny(1), NAME).is_exact
    assert place.server.sent == len(place.server.files['/w.pth'])
    assert left_behind(place) == ['tiny.pth']


def test_a_part_without_a_mark_of_the_server_does_not_stay(place):
    del place.server.etags['/w.pth']
    place.server.cuts = [50_000]
    refused(r'50000 of \d+ bytes arrived')
    assert left_behind(place) == []
    assert load_weights(tiny(1), NAME).is_exact


def test_a_server_that_never_sends_a_byte_more_is_given_up(place):
    place.server.cuts = [50_000, 0, 0, 0, 0, 0]
    refused(r'50000 of \d+ bytes arrived; put the file by hand at')
    assert len(place.server.requests) == 1 + downloads.ATTEMPTS
    assert not cached_file(place.entry).exists()
    place.server.cuts = []
    assert load_weights(tiny(1), NAME).is_exact


def test_a_wrong_hash_leaves_nothing(place):
    change(place, sha256='0badc0de')
    refused('has the SHA-256 [0-9a-f]{64}, not 0badc0de: it was replaced, or damaged')
    assert left_behind(place) == []


def test_the_beginning_of_the_hash_is_checked(place):
    known = downloads.sha256_of(place.folder / 'content.pth')
    change(place, sha256=known[:8])
    assert obtain(place.files['tiny'])[1] == known


def test_the_first_hash_is_remembered(place):
    read_weights(NAME)
    first = remembered()['tiny']['sha256']
    path = cached_file(place.entry)
    path.unlink()
    place.server.files['/w.pth'] = as_bytes(public(tiny(1)), place.folder)
    refused(f'not {first}: it was replaced')
    path.write_bytes(place.server.files['/w.pth'])
    refused(rf'not {first} \(first seen, .*hashes\.json has it\): it is damaged or another file')
    (place.folder / 'home/hub/mmeffvit/hashes.json').unlink()
    assert load_weights(tiny(), NAME).is_exact


def test_a_404_says_what_to_do(place):
    place.server.files.clear()
    said = refused('HTTP Error 404')
    assert place.entry.url in said and str(cached_file(place.entry)) in said
    assert 'MMEFFVIT_WEIGHTS' in said and '--from-scratch' in said
    change(place, part='detector')
    assert '--from-scratch' not in refused('HTTP Error 404')


def test_a_redirect_is_followed_and_goes_on_after_a_cut(place):
    place.server.files['/moved.pth'] = place.server.files['/w.pth']
    place.server.etags['/moved.pth'] = '"one"'
    place.server.redirects['/w.pth'] = '/moved.pth'
    place.server.cuts = [50_000]
    assert load_weights(tiny(1), NAME).is_exact
    assert place.server.requests[-1] == ('/moved.pth', 'bytes=50000-')


def test_no_redirect_leads_out_of_encryption():
    request = downloads.urllib.request.Request('https://example.org/w.pth')
    with pytest.raises(OSError, match='not encrypted'):
        downloads._Redirects().redirect_request(
            request, None, 302, 'Found', {}, 'http://example.org/w.pth'
        )


def test_a_slow_server_is_waited_for_no_longer_than_the_timeout(place, monkeypatch):
    monkeypatch.setenv('MMEFFVIT_TIMEOUT', '0.2')
    place.server.pause = 1.0
    refused(r'no byte arrived within 0\.2 s')
    monkeypatch.setenv('MMEFFVIT_TIMEOUT', 'soon')
    refused('MMEFFVIT_TIMEOUT=soon must be a number of seconds')


def test_without_network_nothing_is_asked_for(place, monkeypatch):
    for name in downloads.OFFLINE:
        monkeypatch.setenv(name, '1')
        refused(f'w.pth is not downloaded, for {name} is set; put the file by hand at')
        monkeypatch.setenv(name, '0')
    assert not place.server.requests
    assert load_weights(tiny(1), NAME).is_exact


def test_a_dead_address_says_what_to_do(place):
    change(place, url='http://127.0.0.1:9/w.pth')
    refused('http://127.0.0.1:9/w.pth cannot be downloaded: .*refused; put the file by hand')


def test_a_file_put_there_by_hand_is_taken(place):
    change(place, url=None, suffix='.pth')
    refused(r'tiny has no direct address: fetch it from https://example\.org by hand and put it at')
    path = cached_file(place.files['tiny'])
    path.parent.mkdir(parents=True)
    path.write_bytes(place.server.files['/w.pth'])
    assert load_weights(tiny(1), NAME).is_exact
    assert not place.server.requests


def test_a_folder_stands_in_for_the_network(place, monkeypatch):
    folder = place.folder / 'weights'
    folder.mkdir()
    monkeypatch.setenv('MMEFFVIT_WEIGHTS', str(folder))
    refused(r'has no tiny\.pth, the file of .*tools/weights\.py get tiny --out')
    (folder / 'tiny.pth').write_bytes(place.server.files['/w.pth'])
    assert load_weights(tiny(1), NAME).is_exact
    assert not place.server.requests
    change(place, sha256='0badc0de')
    refused('not 0badc0de')


def test_a_mirror_stands_in_for_the_network(place, monkeypatch):
    place.server.files['/mirror/tiny.pth'] = place.server.files.pop('/w.pth')
    monkeypatch.setenv('MMEFFVIT_WEIGHTS', f'{place.address}/mirror/')
    assert load_weights(tiny(1), NAME).is_exact
    assert place.server.requests == [('/mirror/tiny.pth', None)]


TWO = """
import sys
from mmeffvit.checkpoints import index, read_weights
origin, url = 'https://example.org', sys.argv[1]
entry = index.PublishedFile('tiny', 'quadtree', 'classifier', 'tests', origin, url)
index.published_files = lambda: {'tiny': entry}
print(len(read_weights('mmeffvit://tiny')))
"""


def test_two_processes_at_once_download_once(place):
    place.server.pause = 0.1
    command = [sys.executable, '-c', TWO, place.entry.url]
    options = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    processes = [subprocess.Popen(command, **options) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ''
    assert len(place.server.requests) == 1


def test_a_cache_that_cannot_be_written_to_costs_only_time(place):
    """Folders that are no folders refuse every user, also one who may write everywhere."""
    path = cached_file(place.entry)
    path.parent.mkdir(parents=True)
    path.write_bytes(place.server.files['/w.pth'])
    for name in ('locks', 'converted'):
        (path.parents[1] / name).write_text('')
    for _ in range(2):
        assert load_weights(tiny(1), NAME).is_exact
    assert not place.server.requests
    path.unlink()
    refused('cannot be written to .* let TORCH_HOME name a folder that can')
    assert not place.server.requests


# Models by name


def test_get_model_takes_the_published_weights(place, monkeypatch):
    pvt = get_model('pvtv2_b0')
    state = public_layouts.pvtv2(pvt.state_dict())
    place.server.files['/w.pth'] = as_bytes(state, place.folder)
    entry = replace(place.entry, name='pvtv2_b0', family='pvtv2', model='pvtv2_b0')
    place.files.update(pvtv2_b0=entry, other=replace(entry, name='other', model='pvtv2_b1'))
    found = get_model('pvtv2_b0', pretrained=True, out_indices=(3,))
    assert torch.equal(found.stages[3].norm.weight, pvt.stages[3].norm.weight)
    assert torch.equal(
        found.stages[0].patch_embed.proj.weight, pvt.stages[0].patch_embed.proj.weight
    )
    with pytest.raises(CheckpointError, match=r"called pvtv2_b1 .*takes 'mmeffvit://other' of the"):
        get_model('pvtv2_b1', pretrained=True)
    with pytest.raises(CheckpointError, match=r'No weights called pvtv2_b2 are published\.'):
        get_model('pvtv2_b2', pretrained=True)
    assert get_model('pvtv2_b0', pretrained=False) is not None
