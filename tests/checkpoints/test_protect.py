"""mmengine's own functions, as the frameworks call them."""

import logging

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import checkpoint as mmengine_checkpoint
from safetensors.torch import save_file
from torch import nn

from helpers import malice
from helpers.servers import serve
from mmeffvit.checkpoints import CheckpointError, read_weights
from mmeffvit.checkpoints.load import partial_allowed
from mmeffvit.checkpoints.protect import load_from_mmeffvit

STATE = {'weight': torch.ones(2, 2), 'bias': torch.zeros(2)}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """PyTorch's folder of downloads."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine'))
    return tmp_path / 'hub'


def addresses(url, path, monkeypatch):
    """The file under every scheme that mmengine knows."""
    for name in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(mmengine_checkpoint, name, lambda: {'net': f'{url}/{path.name}'})
    monkeypatch.setattr(mmengine_checkpoint, 'get_deprecated_model_names', dict)

    class Backend:
        def get(self, _):
            return path.read_bytes()

    monkeypatch.setattr(mmengine_checkpoint, 'get_file_backend', lambda *a, **k: Backend())
    zoos = ('modelzoo', 'torchvision', 'open-mmlab', 'openmmlab', 'mmcls')
    return [
        str(path),
        f'{url}/{path.name}',
        *(f'{zoo}://net' for zoo in zoos),
        's3://bucket/w.pth',
        'cluster:s3://bucket/w.pth',
        'petrel://bucket/w.pth',
    ]


def test_no_scheme_of_mmengine_is_left_to_itself():
    for scheme, loader in mmengine_checkpoint.CheckpointLoader._schemes.items():
        ours = scheme == 'mmeffvit://' and loader is load_from_mmeffvit
        assert ours or hasattr(loader, '__wrapped__'), scheme


def test_every_scheme_reads_and_none_runs_code(tmp_path, hub, monkeypatch):
    good, evil = tmp_path / 'good.pth', tmp_path / 'evil.pth'
    torch.save({'backbone.weight': torch.ones(2, 2)}, good)
    malice.write_zip(evil, tmp_path / 'mark')
    with serve(tmp_path) as url:
        for address in addresses(url, good, monkeypatch):
            loaded = mmengine_checkpoint._load_checkpoint(address)
            state = loaded.get('state_dict', loaded)
            assert [tensor.sum() for tensor in state.values()] == [4], address
        for address in addresses(url, evil, monkeypatch):
            with pytest.raises(CheckpointError, match=r'would run posix\.system'):
                mmengine_checkpoint._load_checkpoint(address)
    with pytest.raises(CheckpointError, match='gopher://x: addresses'):
        read_weights('gopher://x')
    with pytest.raises(CheckpointError, match='torchvision://none: there is no such model'):
        read_weights('torchvision://none')
    assert not (tmp_path / 'mark').exists()


def test_functions_by_name_are_replaced_wherever_they_were_imported(tmp_path):
    import mmengine.runner

    malice.write_zip(tmp_path / 'w.pth', tmp_path / 'mark')
    for module in (mmengine_checkpoint, mmengine.runner):
        for name, function in vars(module).items():
            if name.startswith('load_from_') or name == '_safe_torch_load':
                with pytest.raises(CheckpointError):
                    function(str(tmp_path / 'w.pth'))
    assert mmengine.runner.load_state_dict is mmengine_checkpoint.load_state_dict
    assert not (tmp_path / 'mark').exists()


def test_a_framework_that_was_imported_before_is_protected_too(tmp_path):
    import subprocess
    import sys

    malice.write_zip(tmp_path / 'w.pth', tmp_path / 'mark')
    code = (
        'from mmengine.runner.checkpoint import load_from_local, _load_checkpoint\n'
        'import sys; earlier = sys.modules["__main__"]\n'
        'import mmeffvit\n'
        f'for load in (earlier.load_from_local, _load_checkpoint):\n'
        '    try:\n'
        f'        load({str(tmp_path / "w.pth")!r}, None)\n'
        '    except ValueError as error:\n'
        '        assert "posix.system" in str(error), error\n'
        '    else:\n'
        '        raise SystemExit("loaded")\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
    assert not (tmp_path / 'mark').exists()


class Net(BaseModule):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.layer = nn.Linear(2, 2)
        self.head = nn.Linear(2, 3)


def whole():
    return {key: torch.full_like(value, 2.0) for key, value in Net().state_dict().items()}


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors', '.legacy'])
@pytest.mark.parametrize('prefix', [None, 'backbone.'])
def test_init_cfg_loads_every_format(tmp_path, suffix, prefix):
    state = {f'{prefix or ""}{key}': value for key, value in whole().items()}
    path = tmp_path / f'w{suffix}'
    if suffix == '.safetensors':
        save_file(state, path)
    else:
        torch.save(dict(model=state), path, _use_new_zipfile_serialization=suffix == '.pth')
    model = Net(dict(type='Pretrained', checkpoint=str(path), prefix=prefix))
    model.init_weights()
    assert all(value.eq(2).all() for value in model.state_dict().values())


def test_init_cfg_refuses_another_models_weights(tmp_path):
    torch.save({f'block.{i}.weight': torch.ones(1) for i in range(9)}, tmp_path / 'w.pth')
    model = Net(dict(type='Pretrained', checkpoint=str(tmp_path / 'w.pth')))
    with pytest.raises(
        CheckpointError, match=r'not those of this Net: 0 of 9 .*convert_checkpoint'
    ):
        model.init_weights()


def test_a_head_of_other_classes_is_left_out_and_listed(tmp_path, caplog):
    state = whole()
    state['head.weight'], state['head.bias'] = torch.ones(5, 2), torch.ones(5)
    torch.save(state, tmp_path / 'w.pth')
    model = Net()
    with caplog.at_level(logging.INFO, 'root'):
        mmengine_checkpoint.load_checkpoint(model, str(tmp_path / 'w.pth'), logger=logging.root)
    assert model.layer.weight.eq(2).all()
    text = caplog.text
    assert '2 of 4 tensors of the checkpoint fill Net' in text
    assert '2 of another shape, left as initialised: head.weight (5, 2) instead of (3, 2)' in text


def test_a_partial_load_can_be_insisted_on(tmp_path):
    state = {f'block.{i}.weight': torch.ones(1) for i in range(9)}
    state['layer.bias'] = torch.full((2,), 2.0)
    model = Net()
    with pytest.raises(CheckpointError, match='--allow-partial'):
        mmengine_checkpoint.load_state_dict(model, state)
    with partial_allowed():
        mmengine_checkpoint.load_state_dict(model, state)
    assert model.layer.bias.eq(2).all()


def test_strict_is_strict(tmp_path):
    state = whole()
    del state['head.bias']
    with pytest.raises(CheckpointError, match='strict'):
        mmengine_checkpoint.load_state_dict(Net(), state, strict=True)
