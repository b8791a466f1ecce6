"""Parity with the public training code: whole classifiers and their gradients, 224 and 320."""

from __future__ import annotations

import functools

import pytest
from torch import nn

from helpers.goldens import load_golden, recipe, relative_error
from mmeffvit.checkpoints import convert
from mmeffvit.necks import TokenPooling
from mmeffvit.registry import MODELS

NAMES = ['T_mix_cls224', 'S_mlp_t16_320']


class Classifier(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.backbone = MODELS.build(config)
        self.neck = TokenPooling(config['arch']['embed_dims'][-1])
        self.head = nn.ModuleDict(dict(fc=nn.Linear(1280, 1000)))

    def forward(self, image):
        return self.head.fc(self.neck(self.backbone(image))[-1])


@functools.cache
def recorded_run(name: str):
    """Logits, stage outputs and gradients by public name, of one forward and backward pass."""
    gold = load_golden(f'dualtoken/golden_{name}.pt')
    state = recipe().fill_state(gold['state'])
    result = convert(state, 'dualtoken', part='model')
    assert result.is_exact
    model = Classifier(result.config).eval()
    model.load_state_dict(result.state)
    stages = []
    for stage in model.backbone.stages:
        stage.register_forward_hook(lambda module, args, out: stages.append(out[:2]))
    logits = model(recipe().make_input(gold['input']['shape'], gold['input']['seed']))
    seed, block = gold['grad_out_seed'], gold['grad_out_block']
    logits.backward(recipe().make_input(logits.shape, seed, block))
    grads = {name: p.grad for name, p in model.named_parameters()}
    mapped = dict(result.mapped)
    ours = {key: mapped[key] for key in gold['grad_digests']}
    ours = {
        key: k if k.startswith(('neck', 'head')) else f'backbone.{k}' for key, k in ours.items()
    }
    return gold, logits.detach(), stages, {key: grads[ours[key]] for key in ours}


@pytest.mark.parametrize('name', NAMES)
def test_logits(name):
    gold, logits, _, _ = recorded_run(name)
    assert relative_error(logits, gold['logits']) < 1e-5


@pytest.mark.parametrize('name', NAMES)
def test_both_streams_of_every_stage(name):
    gold, _, stages, _ = recorded_run(name)
    step = gold['stage_token_step']
    for (x, g), image, tokens in zip(
        stages, gold['stage_image_tokens'], gold['stage_global_tokens'], strict=True
    ):
        assert relative_error(x[0, ::step], image) < 1e-5
        assert relative_error(g[0], tokens) < 1e-5


@pytest.mark.parametrize('name', NAMES)
def test_gradients(name):
    gold, _, _, grads = recorded_run(name)
    for key, expected in gold['grad_digests'].items():
        digest = recipe().digest(grads[key])
        # Sums of mixed signs cancel; compare them on the scale of what is summed.
        assert digest['sum'] == pytest.approx(expected['sum'], abs=1e-4 * expected['abs_sum']), key
        assert digest['abs_sum'] == pytest.approx(expected['abs_sum'], rel=1e-4), key
        assert digest['sq_sum'] == pytest.approx(expected['sq_sum'], rel=1e-4), key
        assert digest['max'] == pytest.approx(expected['max'], rel=1e-4), key
