from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.models import CLIP, MODELS, tiny_input, tiny_model
from helpers.tool_runs import ROOT, run_tool
from mmeffvit.deployment import check_onnx, export_onnx, exportable

TOOL = 'deployment/export_onnx.py'
#: The example, multiples of all strides, and a map that is smaller than a window.
SIZES = ((75, 101), (64, 96), (40, 33))
QUICK = ('vit', 'slide_pvt')


@pytest.mark.parametrize(
    'name', [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MODELS]
)
def test_every_family_at_open_sizes(name, tmp_path):
    model = exportable(tiny_model(name))
    inputs = [tiny_input(model.model, size) for size in SIZES]
    export_onnx(model, inputs[0], tmp_path / 'model.onnx')
    inputs[1] = inputs[1][:1]
    assert check_onnx(tmp_path / 'model.onnx', model, inputs) < 1e-4


def test_large_weights_beside_the_graph_are_whole_or_not_there(tmp_path, monkeypatch):
    """ONNX holds 2 GB at most; what is larger is written into a second file."""
    monkeypatch.setattr('torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD', 1)
    path, images = tmp_path / 'model.onnx', torch.randn(1, 3, 8, 8)
    model = exportable(nn.Conv2d(3, 64, 3))
    export_onnx(model, images, path)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ['model.onnx', 'model.onnx.data']
    assert check_onnx(path, model, [images]) < 1e-4

    def files():
        return {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    before = files()
    replace = type(path).replace

    def fail(self, target):
        if str(target).endswith('.data'):
            raise OSError(28, 'No space left on device')
        return replace(self, target)

    nn.init.zeros_(model.model.weight)
    with monkeypatch.context() as patch:
        patch.setattr(type(path), 'replace', fail)
        with pytest.raises(OSError, match='No space left'):
            export_onnx(model, images, path)
    # The weights of before are there, the graph is not: nothing that looks whole.
    assert files() == {'model.onnx.data': before['model.onnx.data']}
    export_onnx(model, images, path)
    assert check_onnx(path, model, [images]) < 1e-4


def test_layers_are_folded_first():
    model = exportable(tiny_model('slide_pvt'))
    assert model.model.stages[0].blocks[0].attn.deploy


def test_a_difference_is_an_error(tmp_path):
    model = exportable(nn.Conv2d(3, 2, 1))
    images = torch.randn(1, 3, 8, 8)
    export_onnx(model, images, tmp_path / 'model.onnx')
    nn.init.zeros_(model.model.weight)
    with pytest.raises(ValueError, match=r'differs from PyTorch by .* on 1x3x8x8'):
        check_onnx(tmp_path / 'model.onnx', model, [images])


class _Unexportable(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).real


def test_what_cannot_be_exported_says_why(tmp_path):
    with pytest.raises(ValueError, match=r'This model cannot be exported: .*linalg_eig'):
        export_onnx(exportable(_Unexportable()), torch.rand(1, 3, 8, 8), tmp_path / 'model.onnx')


@pytest.mark.slow
@pytest.mark.parametrize(
    'config',
    [
        'retinanet_slide_pvtv2_b0_shapes',
        'semanticfpn_slide_pvt_t_ade20k',
        'skipat_t_imagenet',
    ],
)
def test_tool(config, monkeypatch, capsys, tmp_path):
    path, out = ROOT / f'configs/{config}.py', tmp_path / 'model.onnx'
    assert run_tool(monkeypatch, TOOL, path, out, '--shape', '75', '101') == 0
    assert 'differs from PyTorch by at most' in capsys.readouterr().out
    assert out.is_file()


@pytest.mark.slow
def test_tool_leaves_no_wrong_file(monkeypatch, capsys, tmp_path):
    config, out = tmp_path / 'config.py', tmp_path / 'model.onnx'
    backbone = dict(type='UniFormerUNet', **CLIP)
    config.write_text(f"model = dict(type='Restorer', backbone={backbone})")
    assert run_tool(monkeypatch, TOOL, config, out, '--shape', '32', '45') == 0
    whole = out.read_bytes()
    monkeypatch.setattr('mmeffvit.deployment.TOLERANCE', -1.0)
    assert run_tool(monkeypatch, TOOL, config, out, '--shape', '32', '45') == 2
    assert 'model.onnx differs from PyTorch' in capsys.readouterr().err
    assert out.read_bytes() == whole, 'what was there stays'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['config.py', 'model.onnx']


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['no.py', 'a.onnx'], 'no.py does not exist'),
        (['no.py', 'a.pt'], 'a.pt must end in .onnx'),
        (['no.py', '.'], '. is a folder: name a file'),
        (['no.py', 'a.onnx', '--shape', '8', '8'], '--shape 8 8 must be at least 32'),
    ],
)
def test_user_errors(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run_tool(monkeypatch, TOOL, *arguments) == 2
    assert message in capsys.readouterr().err


def test_missing_onnx_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr('mmeffvit.utils.requirements.find_spec', lambda name: None)
    assert run_tool(monkeypatch, TOOL, 'a.py', 'a.onnx') == 2
    assert "pip install 'mmeffvit[deploy]'" in capsys.readouterr().err
