import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer

from mmeffvit.checkpoints import CheckpointError, Weights
from mmeffvit.cli.errors import UserError
from mmeffvit.cli.training import (
    check_resumable,
    choose_start,
    enable_amp,
    enable_auto_scale_lr,
    enable_finite_loss,
    enable_resume,
    preview_weights,
    refuse_published,
    set_seed,
)


@pytest.fixture
def checkpoint(tmp_path):
    """A training checkpoint as mmengine writes it."""
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    meta = dict(seed=7, epoch=1, palette=np.arange(3), score=np.float64(0.5))
    path = tmp_path / 'epoch_1.pth'
    weights = dict(weight=torch.ones(2))
    hub = dict(log_scalars=dict(loss=history))
    torch.save(dict(meta=meta, state_dict=weights, optimizer={}, message_hub=hub), path)
    (tmp_path / 'last_checkpoint').write_text(str(path))
    return path


def test_resume_takes_the_seed_of_the_first_run(checkpoint):
    cfg = Config(dict(work_dir=str(checkpoint.parent), randomness=dict(deterministic=True)))
    enable_resume(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (True, str(checkpoint))
    assert cfg.randomness == dict(deterministic=True, seed=7)


def test_resume_keeps_a_seed_that_the_config_names(checkpoint):
    cfg = Config(dict(work_dir='unused'))
    set_seed(cfg, 3)
    enable_resume(cfg, str(checkpoint))
    assert cfg.randomness.seed == 3


def test_resume_follows_a_work_directory_that_was_moved(checkpoint, tmp_path):
    moved = tmp_path.with_name('moved')
    tmp_path.rename(moved)
    cfg = Config(dict(work_dir=str(moved)))
    enable_resume(cfg, 'auto')
    assert cfg.load_from == str(moved / 'epoch_1.pth')


def test_resume_without_a_checkpoint_starts_anew(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='start.pth'))
    enable_resume(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (False, 'start.pth')
    with pytest.raises(ValueError, match='does not exist'):
        enable_resume(cfg, str(tmp_path / 'no.pth'))


def test_bare_weights_cannot_be_resumed(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict={}), path)
    with pytest.raises(UserError, match='load_from='):
        enable_resume(Config(dict(work_dir='x')), str(path))


def test_resume_passes_over_what_cannot_be_read(checkpoint, capsys):
    damaged = checkpoint.with_name('epoch_2.pth')
    damaged.write_bytes(checkpoint.read_bytes()[:-400])
    cfg = Config(dict(work_dir=str(checkpoint.parent)))
    enable_resume(cfg, 'auto')
    assert cfg.load_from == str(checkpoint)
    assert f'passed over: {damaged} cannot be read' in capsys.readouterr().out
    checkpoint.unlink()
    with pytest.raises(UserError, match='none that a run can be resumed from'):
        enable_resume(cfg, 'auto')


@pytest.mark.parametrize('name', ['published', 'mmeffvit://quadtree_b0', 'mmeffvit://no'])
def test_published_weights_are_no_run(name):
    for refuse in (refuse_published, lambda name: enable_resume(Config(dict(work_dir='x')), name)):
        with pytest.raises(UserError, match='cannot be resumed, for published weights have no opt'):
            refuse(name)


def starts():
    """A config of several starts, in every spelling."""
    published = dict(type='Pretrained', checkpoint='mmeffvit://quadtree_b0')
    own = dict(type='Pretrained', checkpoint='own.pth')
    constant = dict(type='Constant', layer='Conv2d', val=0)
    backbone, neck = dict(init_cfg=published), dict(init_cfg=[constant, own])
    head = [dict(pretrained='mmeffvit://quadtree_b0'), dict(pretrained='own.pth')]
    return Config(dict(model=dict(backbone=backbone, neck=neck, head=head), work_dir='x'))


@pytest.fixture
def no_choice(monkeypatch):
    monkeypatch.delenv('MMEFFVIT_FROM_SCRATCH')


def test_a_run_starts_where_its_config_says(no_choice):
    cfg = starts()
    assert choose_start(cfg, from_scratch=False) == []
    assert cfg.to_dict() == starts().to_dict()


def test_from_scratch_leaves_all_weights_out(no_choice):
    cfg = starts()
    notes = choose_start(cfg, from_scratch=True)
    addresses = ['mmeffvit://quadtree_b0', 'own.pth'] * 2
    assert sorted(notes) == sorted(f'{a} is not loaded (--from-scratch).' for a in addresses)
    assert cfg.model.backbone.init_cfg is None
    assert [init.type for init in cfg.model.neck.init_cfg] == ['Constant']
    assert [part.pretrained for part in cfg.model.head] == [None, None]
    cfg.load_from = 'own.pth'
    with pytest.raises(UserError, match='--from-scratch contradicts load_from=own'):
        choose_start(cfg, from_scratch=True)


def test_the_environment_leaves_published_weights_out(monkeypatch):
    monkeypatch.setenv('MMEFFVIT_FROM_SCRATCH', '1')
    cfg = starts()
    note = 'mmeffvit://quadtree_b0 is not loaded (MMEFFVIT_FROM_SCRATCH).'
    assert choose_start(cfg, from_scratch=False) == [note] * 2
    assert cfg.model.neck.init_cfg[1].checkpoint == cfg.model.head[1].pretrained == 'own.pth'


def test_a_resumed_run_fetches_no_start(no_choice):
    cfg = starts()
    cfg.resume, cfg.load_from = True, 'epoch_1.pth'
    assert choose_start(cfg, from_scratch=False) == []
    assert cfg.model.backbone.init_cfg is None


def test_another_head_is_named_before_the_optimizer_meets_it():
    model, other = (torch.nn.ModuleDict(dict(head=torch.nn.Linear(2, n))) for n in (3, 5))
    check_resumable(model, Weights(model.state_dict(), 'epoch_1.pth'))
    with pytest.raises(
        UserError, match=r'head\.weight \(5, 2\) instead of \(3, 2\).*load_from=epoch_1\.pth'
    ):
        check_resumable(model, Weights(other.state_dict(), 'epoch_1.pth'))


def test_a_loss_that_is_not_finite_ends_every_run_unless_the_config_says_how():
    cfg = Config(dict())
    enable_finite_loss(cfg)
    enable_finite_loss(cfg)
    assert cfg.custom_hooks == [dict(type='mmeffvit.FiniteLossHook')]


RESTORER = dict(
    type='Restorer',
    backbone=dict(type='Uformer', arch=dict(embed_dims=8, depths=(1,) * 9), window_size=4),
)


def test_what_a_run_starts_from_is_said_or_refused_before_it_starts(tmp_path):
    from mmeffvit.models import build_model

    cfg = Config(dict(default_scope='mmeffvit', model=RESTORER))
    (note,) = preview_weights(cfg)
    assert note == 'No weights are loaded: Restorer has its initial values.'
    state = build_model(cfg).backbone.state_dict()
    first, *rest = state
    torch.save({key: state[key] for key in rest}, tmp_path / 'part.pth')
    torch.save({f'x.{key}': state[key] for key in rest}, tmp_path / 'other.pth')
    for place in (
        dict(load_from=str(tmp_path / 'part.pth')),
        {'model.backbone.init_cfg': dict(type='Pretrained', checkpoint=str(tmp_path / 'part.pth'))},
        {
            'model.backbone.init_cfg': dict(
                type='Pretrained', checkpoint=str(tmp_path / 'other.pth'), prefix='x'
            )
        },
    ):
        cfg = Config(dict(default_scope='mmeffvit', model=RESTORER))
        cfg.merge_from_dict(place)
        (note,) = preview_weights(cfg)
        assert f'{len(rest)} of {len(rest)} tensors of {tmp_path}' in note
        assert '1 not in the file, left as initialised: ' in note and first in note
    cfg = Config(
        dict(default_scope='mmeffvit', model=RESTORER, load_from=str(tmp_path / 'other.pth'))
    )
    with pytest.raises(CheckpointError, match='not those of this Restorer: 0 of'):
        preview_weights(cfg)


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without accelerator')
def test_amp_needs_an_accelerator():
    with pytest.raises(UserError, match='--amp'):
        enable_amp(Config(dict(optim_wrapper=dict(type='OptimWrapper'))))


def test_amp_config(monkeypatch):
    monkeypatch.setattr('mmeffvit.cli.training.get_device', lambda: 'cuda')
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    enable_amp(cfg)
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic')
    with pytest.raises(UserError, match='ApexOptimWrapper'):
        enable_amp(Config(dict(optim_wrapper=dict(type='ApexOptimWrapper'))))


def test_auto_scale_lr():
    cfg = Config(dict(auto_scale_lr=dict(base_batch_size=16)))
    enable_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr.enable
    with pytest.raises(UserError, match='base_batch_size'):
        enable_auto_scale_lr(Config(dict()))
