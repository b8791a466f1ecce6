from __future__ import annotations

import argparse
import os
import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import load_file

from helpers import public_layouts
from mmeffvit.backbones import PVT, PVTv2, QuadTreeTransformer
from mmeffvit.checkpoints import convert, read_weights, write_weights
from mmeffvit.registry import MODELS

ARCH = dict(embed_dims=(8, 16, 40, 64), depths=(1, 1, 2, 1), num_heads=(1, 2, 5, 8))
ARCH['mlp_ratios'] = (2, 2, 2, 2)
TOOL = Path(__file__).parents[2] / 'tools' / 'convert_checkpoint.py'


def public_quadtree(kind: str = 'B') -> dict[str, torch.Tensor]:
    """A state dict with the keys of the authors' code, made from a model of ours."""
    model = QuadTreeTransformer(ARCH, attention=dict(kind=kind))
    return public_layouts.quadtree(model.state_dict())


@pytest.mark.parametrize('kind', 'AB')
def test_quadtree_loads_strictly(kind):
    result = convert(public_quadtree(kind), 'quadtree')
    assert result.is_exact
    assert result.config['attention'] == dict(kind=kind)
    model = MODELS.build(result.config)
    model.load_state_dict(result.state, strict=True)


@pytest.mark.parametrize('name', [public_layouts.pvtv2, public_layouts.pvtv2_of_timm])
def test_pvtv2_loads_strictly(name):
    ours = PVTv2(ARCH).state_dict()
    result = convert(
        {**name(ours), 'head.weight': torch.zeros(5, 64), 'head.bias': torch.zeros(5)}, 'pvtv2'
    )
    assert result.is_exact
    assert [key for key, _ in result.dropped] == ['head.weight', 'head.bias']
    assert all(torch.equal(result.state[key], ours[key]) for key in ours)


def test_pvt_drops_the_class_token():
    ours = PVT(ARCH).state_dict()
    public = public_layouts.pvt(ours)
    result = convert(public, 'pvt')
    assert result.is_exact
    assert {key for key, _ in result.dropped} == {'cls_token', 'norm.weight', 'norm.bias'}
    assert all(torch.equal(result.state[key], ours[key]) for key in ours)


def test_whole_detector_keeps_neck_and_heads():
    state = {f'backbone.{k}': v for k, v in public_quadtree().items()}
    state['neck.lateral_convs.0.conv.weight'] = torch.zeros(1)
    result = convert(state, 'quadtree', part='model')
    assert result.is_exact
    assert 'neck.lateral_convs.0.conv.weight' in result.state
    assert 'backbone.stages.0.blocks.0.attn.q.weight' in result.state
    alone = convert(state, 'quadtree')
    assert 'stages.0.blocks.0.attn.q.weight' in alone.state


def test_classifier_head_goes_to_mmpretrain():
    state = {**public_quadtree(), 'head.weight': torch.zeros(3, 64), 'head.bias': torch.zeros(3)}
    assert 'head.fc.weight' in convert(state, 'quadtree', part='model').state


def test_every_mismatch_is_reported():
    state = public_quadtree()
    del state['norm4.weight']
    state['block1.0.attn.surprise'] = torch.zeros(1)
    state['block3.1.mlp.fc2.bias'] = torch.zeros(3)
    result = convert(state, 'quadtree')
    assert not result.is_exact
    assert result.missing == ['stages.3.norm.weight']
    assert result.unexpected == ['block1.0.attn.surprise']
    assert len(result.mismatched) == 1


def test_what_does_not_show_its_architecture_is_refused():
    state = {k: v for k, v in public_quadtree().items() if not k.startswith('patch_embed')}
    with pytest.raises(ValueError, match=r'too few keys .*patch_embed\.proj\.bias'):
        convert(state, 'quadtree')


def test_foreign_keys_are_refused():
    with pytest.raises(ValueError, match='No key is one of the QuadTreeAttention'):
        convert({'conv1.weight': torch.zeros(1)}, 'quadtree')
    with pytest.raises(ValueError, match="family='resnet'"):
        convert({}, 'resnet')


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run the command line in this process: ``tool(*arguments) -> (code, stdout, stderr)``."""

    def run(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(TOOL), run_name='__main__')
        return (stop.value.code, *capsys.readouterr())

    return run


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_command_line_round_trip(tool, tmp_path, suffix):
    """A training checkpoint as the authors save it, with what OpenMMLab puts beside the weights."""
    source, target = tmp_path / 'b.pth', tmp_path / f'converted{suffix}'
    training = dict(model=public_quadtree(), epoch=3, args=argparse.Namespace(lr=0.1))
    training['message_hub'] = dict(loss=HistoryBuffer([1.0], [1]), score=np.float64(0.5))
    torch.save(training, source)
    code, out, err = tool(source, target, '--family', 'quadtree')
    assert code == 0, err
    assert 'missing: 0' in out and 'unexpected: 0' in out
    if suffix == '.safetensors':
        assert set(load_file(target)) == set(QuadTreeTransformer(ARCH).state_dict())
        return
    saved = torch.load(target, weights_only=True)
    assert saved['meta']['family'] == 'quadtree'
    init = dict(type='Pretrained', checkpoint=str(target))
    model = QuadTreeTransformer(ARCH, init_cfg=init)
    model.init_weights()
    assert all(torch.equal(v, saved['state_dict'][k]) for k, v in model.state_dict().items())


def test_weights_that_share_storage_are_written_apart(tmp_path):
    shared = torch.arange(4.0)
    path = tmp_path / 'tied.safetensors'
    write_weights({'a': shared, 'b': shared, 'c': shared[::2]}, path, {})
    assert torch.equal(read_weights(path)['c'], torch.tensor([0.0, 2.0]))


class _Code:
    def __reduce__(self):
        return os.getcwd, ()


def test_command_line_refuses(tool, tmp_path):
    target = tmp_path / 'out.pth'
    state = public_quadtree()
    del state['norm1.weight']
    files = {
        'partial': lambda path: torch.save(state, path),
        'code': lambda path: torch.save(dict(model=public_quadtree(), hook=_Code()), path),
        'pickle': lambda path: path.write_bytes(pickle.dumps(_Code())),
        'truncated': lambda path: path.write_bytes(b'PK\x03\x04 cut off'),
        'damaged': lambda path: path.write_bytes(b'\x80\x02X\x01\x00\x00\x00\x80.'),
        'script': lambda path: torch.jit.script(torch.nn.ReLU()).save(path),
        'text': lambda path: path.write_text('<html>not found</html>'),
        'numbers': lambda path: torch.save(dict(epoch=3), path),
        'small': lambda path: torch.save({'block1.0.norm1.weight': torch.ones(8)}, path),
        'absent': lambda path: None,
    }
    for name, write in files.items():
        write(tmp_path / f'{name}.pth')
        code, _, err = tool(tmp_path / f'{name}.pth', target, '--family', 'quadtree')
        assert code == 2, name
        assert len(err.strip().splitlines()) == 1 and err.startswith('error: ')
        assert name == 'small' or f'{name}.pth' in err
        assert not target.exists()
    code, _, _ = tool(tmp_path / 'partial.pth', target, '--family', 'quadtree', '--allow-partial')
    assert code == 0
    assert 'stages.0.norm.weight' not in read_weights(target)
