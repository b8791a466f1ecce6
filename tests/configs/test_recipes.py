"""What a recipe promises and can be held without training.

Right values are those of the authors' code, or of the code that the config names where theirs is
not public. Weight decay is measured on the optimizer of the built model, rates on its schedulers.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope
from torch import nn

import mmeffvit
from helpers.recipes import first_match, read_tables
from mmeffvit.layers import DropPath

ROOT = Path(__file__).parents[2] / 'configs'
#: Those under names of version 0.1 inherit all they have.
NAMES = sorted(p.stem for p in ROOT.glob('*.py') if '_deprecation_' not in p.read_text())
PROCESSES = 8
#: Tables of tests/configs/recipes, whose ``_shared.py`` says what each holds.
BATCHES, DROP_PATH = read_tables('BATCHES'), read_tables('DROP_PATH')
NORMALISATION, TEST_EDGE = read_tables('NORMALISATION'), read_tables('TEST_EDGE')
MIXUP, SAMPLER = read_tables('MIXUP'), read_tables('SAMPLER')
DECAY, IMAGENET_RATES = read_tables('DECAY'), read_tables('IMAGENET_RATES')


@functools.cache
def load(name: str) -> Config:
    return Config.fromfile(ROOT / f'{name}.py')


def scope_of(config: Config):
    return DefaultScope.overwrite_default_scope(config.default_scope)


@functools.cache
def build(name: str) -> nn.Module:
    """The model, on the meta device unless it computes while it is built."""
    config = load(name).copy()
    if 'data_preprocessor' in config:
        config.model.setdefault('data_preprocessor', config.data_preprocessor)
    device = 'cpu' if config.default_scope == 'mmeffvit' else 'meta'
    with scope_of(config), torch.device(device):
        return MODELS.build(config.model)


def names_of(pattern: str) -> list[str]:
    """Config names that match, never none."""
    found = [name for name in NAMES if re.fullmatch(pattern, name)]
    assert found, pattern
    return found


# Batch and rate


@pytest.mark.parametrize('name', [name for name in NAMES if not name.endswith('_shapes')])
def test_batch_and_learning_rate(name):
    config = load(name)
    batch, total, rate = first_match(BATCHES, name)
    assert config.train_dataloader.batch_size == batch
    assert config.auto_scale_lr.base_batch_size == total
    assert total in (batch, PROCESSES * batch)
    assert config.optim_wrapper.optimizer.lr == pytest.approx(rate)


@pytest.mark.parametrize('name', names_of(r'.+_shapes'))
def test_the_rate_of_a_demo_is_for_one_process(name):
    config = load(name)
    assert config.auto_scale_lr.base_batch_size == config.train_dataloader.batch_size


# Weight decay


@pytest.mark.parametrize('name', DECAY)
def test_weight_decay_of_every_parameter(name):
    config, model = load(name), build(name)
    with scope_of(config):
        optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    found = {
        id(p): group['weight_decay'] for group in optimizer.param_groups for p in group['params']
    }
    base, is_exempt = DECAY[name]
    modules = dict(model.named_modules())
    wrong = {}
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        module = modules[key.rpartition('.')[0]]
        wanted = 0.0 if is_exempt(key, parameter, module) else base
        if found[id(parameter)] != pytest.approx(wanted):
            wrong[key] = found[id(parameter)]
    assert not wrong


def test_the_head_of_semantic_fpn_learns_ten_times_as_fast():
    name = 'semanticfpn_quadtree_b1_ade20k'
    config, model = load(name), build(name)
    with scope_of(config):
        optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    rates = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    for key, parameter in model.named_parameters():
        assert rates[id(parameter)] == pytest.approx(6e-4 if 'head' in key else 6e-5), key


# Drop path


@pytest.mark.parametrize('name', [name for name in NAMES if not name.endswith('_shapes')])
def test_drop_path(name):
    rates = [m.drop_prob for m in build(name).modules() if isinstance(m, DropPath)]
    wanted = first_match(DROP_PATH, name)
    assert max(rates, default=0.0) == pytest.approx(wanted)
    assert min(rates, default=0.0) == 0.0


# Images


@pytest.mark.parametrize(
    'name', names_of(r'(?!uformer|uniformer|loftr|quadtree_matcher|(quadtree_)?sttr).+')
)
def test_images_are_normalised_as_the_weights_have_seen_them(name):
    config = load(name)
    preprocessor = config.model.get('data_preprocessor') or config.data_preprocessor
    mean, std = first_match(NORMALISATION, name)
    assert list(preprocessor.mean) == mean
    assert list(preprocessor.std) == std


@pytest.mark.parametrize('name', names_of(r'.+_imagenet'))
def test_augmentation_of_imagenet(name):
    config = load(name)
    steps = {step['type']: step for step in config.train_dataloader.dataset.pipeline}
    assert list(steps) == [
        'LoadImageFromFile',
        'RandomResizedCrop',
        'RandomFlip',
        'RandAugment',
        'RandomErasing',
        'PackInputs',
    ]
    mean, std = (list(config.data_preprocessor[key])[::-1] for key in ('mean', 'std'))  # BGR
    augment, erasing = steps['RandAugment'], steps['RandomErasing']
    assert augment['hparams']['pad_val'] == [round(value) for value in mean]
    assert (augment['num_policies'], augment['magnitude_level']) == (2, 9)
    assert augment['magnitude_std'] == 0.5
    assert (list(erasing['fill_color']), list(erasing['fill_std'])) == (mean, std)
    assert erasing['erase_prob'] == 0.25
    mixes = {mix['type']: mix['alpha'] for mix in config.model.train_cfg.augments}
    assert mixes == dict(Mixup=first_match(MIXUP, name), CutMix=1.0)
    assert config.train_dataloader.sampler.type == first_match(SAMPLER, name)


@pytest.mark.parametrize('name', names_of(r'.+_imagenet'))
def test_test_images_keep_their_aspect(name):
    config = load(name)
    for dataloader in (config.val_dataloader, config.test_dataloader):
        _, resize, crop, _ = dataloader.dataset.pipeline
        assert (resize['type'], resize['edge']) == ('ResizeEdge', 'short')
        assert resize['scale'] == first_match(TEST_EDGE, name)
        assert crop == dict(type='CenterCrop', crop_size=224)


@pytest.mark.parametrize('name', names_of(r'.+_3x_coco'))
def test_multi_scale_training(name):
    config = load(name)
    choice = next(
        step for step in config.train_dataloader.dataset.pipeline if step['type'] == 'RandomChoice'
    )
    short = [(side, 1333) for side in range(480, 801, 32)]
    (first,), (small, crop, last) = choice['transforms']
    assert [tuple(scale) for scale in first['scales']] == short
    assert [tuple(scale) for scale in last['scales']] == short
    assert [tuple(scale) for scale in small['scales']] == [(400, 1333), (500, 1333), (600, 1333)]
    assert tuple(crop['crop_size']) == (384, 600)
    assert crop['allow_negative_crop'] and crop['crop_type'] == 'absolute_range'


# Schedules

ITERS = 4  # of an epoch


def rates_of(config: Config, steps: int | None = None) -> list[float]:
    """The learning rate of every epoch's first iteration, or of every iteration."""
    base = config.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    by_iter, by_epoch = [], []
    with scope_of(config):
        for scheduler in config.param_scheduler:
            scheduler = dict(scheduler)
            convert = scheduler.pop('convert_to_iter_based', False)
            scheduler.setdefault('end', config.train_cfg.max_epochs)  # as the Runner does
            kind = PARAM_SCHEDULERS.get(scheduler.pop('type'))
            if convert:
                made = kind.build_iter_from_epoch(optimizer, **scheduler, epoch_length=ITERS)
            else:
                made = kind(optimizer, **scheduler)
            (by_epoch if made.by_epoch else by_iter).append(made)
    found = []
    for step in range(steps or config.train_cfg.max_epochs * ITERS):
        if steps is not None or step % ITERS == 0:
            found.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in by_iter:
            scheduler.step()
        if step % ITERS == ITERS - 1:
            for scheduler in by_epoch:
                scheduler.step()
    return [*found, optimizer.param_groups[0]['lr']]


@pytest.mark.parametrize('name', IMAGENET_RATES)
def test_rates_of_imagenet(name):
    config = load(name)
    warmup, start, peak, end = IMAGENET_RATES[name]
    rates = rates_of(config)
    assert len(rates) == 301
    assert rates[0] == pytest.approx(start)
    assert max(rates) == pytest.approx(peak, rel=1e-3)
    assert abs(rates.index(max(rates)) - warmup) <= 1
    assert rates[-1] == pytest.approx(end, rel=1e-2)


@pytest.mark.parametrize('name', names_of(r'.+_coco'))
def test_steps_of_coco(name):
    config = load(name)
    epochs, milestones = (36, [27, 33]) if '_3x_' in name else (12, [8, 11])
    warmup, steps = config.param_scheduler
    assert config.train_cfg.max_epochs == epochs
    assert (steps['milestones'], steps['gamma'], steps['end']) == (milestones, 0.1, epochs)
    assert (warmup['start_factor'], warmup['end'], warmup['by_epoch']) == (0.001, 500, False)


@pytest.mark.parametrize('name', names_of(r'.+_ade20k'))
def test_schedule_of_ade20k(name):
    config = load(name)
    poly = config.param_scheduler[-1]
    if re.match(r'semanticfpn_(slide|skipat)', name):
        assert len(config.param_scheduler) == 1
        wanted = (80_000, 0.9, 0)
    else:
        warmup = config.param_scheduler[0]
        assert (warmup['start_factor'], warmup['end']) == (1e-6, 1500)
        wanted = (160_000, 1.0, 1500)
    assert (config.train_cfg.max_iters, poly['power'], poly['begin']) == wanted
    assert poly['end'] == wanted[0]


@pytest.mark.parametrize('name', names_of(r'uniformer.*_davis'))
def test_schedule_of_davis(name):
    """FastDVDnet: 80 epochs of 256,000 clips, batch 64, divided by 10 at epochs 50 and 60."""
    config = load(name)
    assert config.optim_wrapper.optimizer.type == 'Adam'
    assert config.train_cfg.max_iters == 80 * 4000
    (steps,) = config.param_scheduler
    assert (steps['milestones'], steps['gamma']) == ([50 * 4000, 60 * 4000], 0.1)
    assert not steps['by_epoch']


@pytest.mark.parametrize('name', names_of(r'uformer.*_sidd'))
def test_schedule_of_sidd(name):
    rates = rates_of(load(name))
    assert rates[:3] == pytest.approx([2e-4 / 3, 2e-4 * 2 / 3, 2e-4], rel=1e-3)
    assert rates[-1] == pytest.approx(1e-6, rel=1e-2)


# Models


@pytest.mark.parametrize('name', names_of(r'.*quadtree_b\d.*_(imagenet|coco|ade20k)'))
def test_quadtree_has_the_options_of_the_code_that_its_start_belongs_to(name):
    """GELU and 8 keys in the authors' classification code, ReLU and 32 in their dense code."""
    dense = not name.endswith('_imagenet')
    options = set()
    for module in build(name).backbone.modules():
        if hasattr(module, 'value_branches'):
            acts = {branch.act for branch in module.value_branches}
            options |= {(act, max(module.topks)) for act in acts}
    assert options == {('relu', 32) if dense else ('gelu', 8)}


@pytest.mark.parametrize(
    'size, tokens', [('t', 8), ('s', 16), ('b', 24)], ids=['tiny', 'small', 'base']
)
def test_global_tokens_of_lightvit(size, tokens):
    for name in names_of(rf'.*lightvit_{size}_.+'):
        assert build(name).backbone.global_token.shape[1] == tokens


@pytest.mark.parametrize('name', names_of(r'cascademaskrcnn_.+'))
def test_target_deviations_of_the_cascade(name):
    stds = [head.bbox_coder.target_stds for head in load(name).model.roi_head.bbox_head]
    assert stds == [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]


@pytest.mark.parametrize(
    'size, published, backbone',
    [('t', 212, 99.7), ('s', 360, 242.9), ('b', 787, 659.8)],
)
def test_upernet_on_vit_costs_what_the_paper_counts(size, published, backbone):
    """At 512x2048 the head has 112, 117 and 127 G multiply-adds; with a neck at least 140."""
    from mmeffvit.analysis.models import count_model

    found = count_model(build(f'upernet_vit_{size}_ade20k'), (512, 2048))
    assert found.macs / 1e9 == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
    'arch, own',
    [('swin_t', False), ('slide_swin_t', False), ('pvt_t', False), ('slide_pvt_t', False)]
    + [('pvtv2_b0', True), ('quadtree_b0', True)],
)
def test_initialiser_of_strided_convolutions(arch, own):
    """PVTv2 draws them with the variance of fan-out; Swin and PVT leave torch's initialiser."""
    torch.manual_seed(0)
    convs = {
        name: conv
        for name, conv in mmeffvit.get_model(arch).named_modules()
        if isinstance(conv, nn.Conv2d)
        and conv.groups == 1
        and conv.stride[0] > 1
        and name.rpartition('.')[2] != 'reduce'
    }
    assert convs
    for name, conv in convs.items():
        kernel = conv.kernel_size[0] ** 2
        fan_in, fan_out = kernel * conv.in_channels, kernel * conv.out_channels
        wanted = (2 / fan_out) ** 0.5 if own else (3 * fan_in) ** -0.5
        assert conv.weight.std().item() == pytest.approx(wanted, rel=0.05), name
        assert bool(conv.bias.any()) == (not own), name
