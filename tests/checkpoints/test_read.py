import argparse
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save_file

from helpers import malice
from helpers.damage import damaged
from mmeffvit.checkpoints import (
    CheckpointError,
    read_checkpoint,
    read_weights,
    write_weights,
)

STATE = {'a.weight': torch.arange(6.0).view(2, 3), 'a.bias': torch.ones(2)}


def training(state):
    """What mmengine saves."""
    hub = dict(log_scalars=dict(loss=HistoryBuffer([1.0, 2.0], [1, 1])), resumed_keys=dict())
    meta = dict(
        seed=7,
        epoch=1,
        palette=np.arange(3, dtype=np.uint8),
        classes=np.array(['a', 'b']),
        score=np.float64(0.5),
        hit=np.bool_(True),
        count=np.int64(3),
        args=argparse.Namespace(lr=0.1),
    )
    optimizer = dict(state={0: dict(step=torch.tensor(1.0), exp_avg=torch.zeros(2))})
    return dict(meta=meta, state_dict=OrderedDict(state), optimizer=optimizer, message_hub=hub)


def same(found, state=STATE):
    return found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize(
    'wrap',
    [
        lambda state: state,
        lambda state: dict(model=state),
        lambda state: dict(state_dict=state, meta=dict(epoch=1)),
        lambda state: dict(model_state=state),
        lambda state: dict(params=state),
        lambda state: dict(student=dict(b=torch.zeros(1)), teacher=state, epoch=99),
        lambda state: dict(model=dict(state_dict=state)),
        lambda state: {f'module.{key}': value for key, value in state.items()},
        lambda state: {f'module._orig_mod.{key}': value for key, value in state.items()},
        lambda state: {f'model.{key}': value for key, value in state.items()},
        lambda state: {
            'pytorch-lightning_version': '2.4',
            'state_dict': {
                'criterion.scale': torch.ones(1),
                **{f'model.{key}': value for key, value in state.items()},
            },
        },
        training,
    ],
)
def test_wrappers_and_prefixes_are_taken_off(tmp_path, wrap, legacy):
    path = tmp_path / 'w.pth'
    torch.save(wrap(STATE), path, _use_new_zipfile_serialization=not legacy)
    weights = read_weights(path)
    assert same(weights)
    assert weights.source == str(path)


@pytest.mark.parametrize('name', ['w.safetensors', 'w.pth'])
def test_safetensors_by_any_name(tmp_path, name):
    save_file(STATE, tmp_path / name)
    assert same(read_weights(tmp_path / name))


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_written_weights_come_back_with_their_meta(tmp_path, suffix):
    path = tmp_path / f'new/w{suffix}'
    write_weights(STATE, path, dict(family='pvt'))
    weights = read_weights(path)
    assert same(weights)
    assert weights.meta == dict(family='pvt')
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize('legacy', [False, True])
def test_a_training_checkpoint_comes_back_whole(tmp_path, legacy):
    path = tmp_path / 'epoch_1.pth'
    torch.save(training(STATE), path, _use_new_zipfile_serialization=not legacy)
    loaded = read_checkpoint(path)
    assert loaded['message_hub']['log_scalars']['loss'].mean() == 1.5
    assert loaded['meta']['palette'].tolist() == [0, 1, 2]
    assert loaded['meta']['score'] == 0.5
    assert loaded['optimizer']['state'][0]['step'] == 1
    assert same(read_weights(path))


def test_numpy_1_and_2_read_each_others_checkpoints(tmp_path):
    torch.save(training(STATE), tmp_path / 'new.pth')
    with zipfile.ZipFile(tmp_path / 'new.pth') as archive:
        pickled = archive.read('new/data.pkl')
    assert b'numpy._core' in pickled or b'numpy.core' in pickled
    for spelling in (b'numpy.core.', b'numpy._core.'):
        other = pickled.replace(b'numpy._core.', spelling).replace(b'numpy.core.', spelling)
        malice.rezip(tmp_path / 'new.pth', tmp_path / 'old.pth', {'data.pkl': other})
        assert read_checkpoint(tmp_path / 'old.pth')['meta']['score'] == 0.5


def test_tied_and_shared_weights(tmp_path):
    shared = torch.arange(4.0)
    state = {'a': shared, 'b': shared, 'c': shared[::2], 'd': shared[:, None].expand(4, 3)}
    torch.save(state, tmp_path / 'w.pth')
    assert same(read_weights(tmp_path / 'w.pth'), state)
    write_weights(state, tmp_path / 'w.safetensors', {})
    assert same(read_weights(tmp_path / 'w.safetensors'), state)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.int8])
def test_other_types(tmp_path, dtype):
    state = {'a': torch.arange(4).to(dtype)}
    torch.save(state, tmp_path / 'w.pth')
    assert same(read_weights(tmp_path / 'w.pth'), state)


@pytest.mark.parametrize('write', malice.WRITERS)
def test_code_is_named_and_not_run(tmp_path, write):
    write(tmp_path / 'w.pth', tmp_path / 'mark')
    with pytest.raises(
        CheckpointError, match=r'w\.pth is refused: it would run posix\.system'
    ) as e:
        read_checkpoint(tmp_path / 'w.pth')
    assert not (tmp_path / 'mark').exists()
    assert 'weights_only' not in str(e.value) and 'safe_globals' not in str(e.value)
    assert '\n' not in str(e.value)


def test_the_mark_appears_where_the_file_is_trusted(tmp_path):
    malice.write_zip(tmp_path / 'w.pth', tmp_path / 'mark')
    torch.load(tmp_path / 'w.pth', weights_only=False)
    assert (tmp_path / 'mark').exists()


class Reach:
    def __init__(self, owner, name):
        self.arguments = owner, name

    def __reduce__(self):
        return getattr, self.arguments


@pytest.mark.parametrize(
    'value', [Reach(OrderedDict, 'fromkeys'), Reach(HistoryBuffer, '__init__'), Reach('', 'join')]
)
def test_getattr_reaches_the_log_histories_only(tmp_path, value):
    torch.save(dict(meta=value), tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=r'would run builtins\.getattr'):
        read_checkpoint(tmp_path / 'w.pth')


def test_a_type_named_by_a_user_is_refused_by_name(tmp_path):
    torch.save(
        dict(state_dict=STATE, meta=pytest.importorskip('pathlib').Path('x')), tmp_path / 'w'
    )
    with pytest.raises(CheckpointError, match=r'would run pathlib\.'):
        read_checkpoint(tmp_path / 'w')


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


BOMBS = {
    'bytearray': Calls(bytearray, 2**40),
    'ndarray': Calls(np.ndarray, (2**20, 2**20)),
    'tensor': Calls(torch.Tensor, 2**20, 2**20),
    'storage': Calls(torch.UntypedStorage, 2**40),
    'view': torch.zeros(1).expand(2**30),
}


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('name', BOMBS)
def test_what_would_expand_is_refused(tmp_path, name, legacy):
    path = tmp_path / 'w.pth'
    torch.save(dict(w=BOMBS[name]), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r'is refused: it (declares|would make)'):
        read_checkpoint(path)


def test_a_compressed_gigabyte_is_refused(tmp_path):
    torch.save(dict(w=torch.zeros(2**8)), tmp_path / 'w.pth')
    with zipfile.ZipFile(tmp_path / 'w.pth') as archive:
        pickled = archive.read('w/data.pkl').replace((2**8).to_bytes(2, 'little'), b'\xff\xff')
    zeros = {'data/0': bytes(2**28), 'data.pkl': pickled}
    path = tmp_path / 'bomb.pth'
    malice.rezip(tmp_path / 'w.pth', path, zeros, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    with pytest.raises(CheckpointError, match='declares 256 MiB of data in a file of 0'):
        read_checkpoint(path)


def test_data_that_is_missing_is_refused(tmp_path):
    torch.save(dict(w=torch.zeros(2**8)), tmp_path / 'w.pth')
    malice.rezip(tmp_path / 'w.pth', tmp_path / 'cut.pth', {'data/0': bytes(8)})
    with pytest.raises(CheckpointError, match='data 0 is missing or cut off'):
        read_checkpoint(tmp_path / 'cut.pth')
    data = malice.legacy_bytes(dict(w=torch.zeros(2**16)))
    (tmp_path / 'legacy.pth').write_bytes(data[:-1000])
    with pytest.raises(CheckpointError, match='missing or cut off'):
        read_checkpoint(tmp_path / 'legacy.pth')


def test_a_flipped_bit_in_the_tensor_data_is_found(tmp_path):
    torch.save(dict(w=torch.zeros(2**12)), tmp_path / 'w.pth')
    data = bytearray((tmp_path / 'w.pth').read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / 'w.pth').write_bytes(data)
    with pytest.raises(CheckpointError, match=r'damaged.*CRC'):
        read_checkpoint(tmp_path / 'w.pth')


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (None, 'does not exist'),
        (b'', 'damaged or no checkpoint'),
        (b'half of a file', 'damaged or no checkpoint'),
        (b'<html>not found</html>', 'damaged or no checkpoint'),
        (b'PK\x03\x04 cut off', 'damaged or no checkpoint'),
        (pickle.dumps([1]), 'not a tensor file'),
        (b'\x80\x02X\x01\x00\x00\x00\x80.', 'damaged or no checkpoint'),
        (malice.safetensors_header(b'{"a": {"dtype": "F32"'), 'damaged or no checkpoint'),
    ],
)
def test_missing_and_foreign_files(tmp_path, content, reason):
    path = tmp_path / 'x.pth'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf'x\.pth .*{reason}') as error:
        read_weights(path)
    assert '\n' not in str(error.value)


def test_a_script_is_refused(tmp_path):
    torch.jit.script(torch.nn.ReLU()).save(tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match='TorchScript'):
        read_weights(tmp_path / 'w.pth')


@pytest.mark.parametrize(
    'content', [dict(epoch=3), dict(state_dict=dict(a=1)), [STATE], {1: 2}, {}]
)
def test_files_without_weights(tmp_path, content):
    torch.save(content, tmp_path / 'w.pth')
    with pytest.raises(CheckpointError, match=r'w\.pth holds no weights'):
        read_weights(tmp_path / 'w.pth')


@pytest.mark.parametrize('kind', ['zip', 'legacy', 'safetensors', 'pickle'])
def test_damaged_files_are_read_or_refused_in_one_sentence(tmp_path, kind):
    path = tmp_path / 'w.pth'
    if kind == 'safetensors':
        save_file(STATE, path, metadata=dict(meta='{"epoch": 1}'))
    else:
        torch.save(training(STATE), path, _use_new_zipfile_serialization=kind != 'legacy')
    data = path.read_bytes()
    if kind == 'pickle':  # damage where it hurts most
        with zipfile.ZipFile(path) as archive:
            data = archive.read('w/data.pkl')
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(150):
        wrong = damaged(data, rng)
        if kind == 'pickle':
            malice.rezip(path, tmp_path / 'x.pth', {'data.pkl': wrong})
        else:
            (tmp_path / 'x.pth').write_bytes(wrong)
        try:
            read_weights(tmp_path / 'x.pth').meta.get('epoch')
        except CheckpointError as error:
            refused += 1
            assert '\n' not in str(error), number
    assert refused > 50


SAVE_SETTINGS = """
import sys, types
import torch

def module(name, **members):
    made = types.ModuleType(name)
    vars(made).update(members)
    sys.modules[name] = made
    for member in members.values():
        member.__module__ = name

class CfgNode(dict):
    def __init__(self, **entries):
        super().__init__(entries)
        self.frozen = True

class ModelCheckpoint:
    pass

module('yacs')
module('yacs.config', CfgNode=CfgNode)
start = 'pytorch_lightning.callbacks'
for name in ('pytorch_lightning', start):
    module(name)
module(f'{start}.model_checkpoint', ModelCheckpoint=ModelCheckpoint)
content = {
    'state_dict': {'matcher.weight': torch.ones(2)},
    'callbacks': {ModelCheckpoint: {'best': 0.5}},
    'hyper_parameters': CfgNode(trainer=CfgNode(lr=1e-3)),
    'pytorch-lightning_version': '1.3.5',
}
torch.save(content, sys.argv[1], _use_new_zipfile_serialization=sys.argv[2] == 'zip')
"""


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_settings_of_training_scripts_do_not_hinder(tmp_path, kind):
    """Lightning's callbacks and yacs' nodes, without their libraries."""
    path = tmp_path / 'matcher.ckpt'
    subprocess.run([sys.executable, '-c', SAVE_SETTINGS, path, kind], check=True)
    assert read_weights(path).keys() == {'matcher.weight'}
    settings = read_checkpoint(path)['hyper_parameters']
    assert type(settings) is OrderedDict and settings['trainer'] == dict(lr=1e-3)
