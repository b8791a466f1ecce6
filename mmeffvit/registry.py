"""Child registries of the mmengine roots, scope ``mmeffvit``.

Every library of the OpenMMLab family finds them by ``type='mmeffvit.Name'``, without
``custom_imports``: mmengine imports this module when it first meets the scope, and the
``locations`` when a name is first looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mmengine.registry import (
    DATA_SAMPLERS,
    LOG_PROCESSORS,
    LOOPS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISBACKENDS,
    Registry,
)
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import METRICS as _METRICS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as _OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import STRATEGIES as _STRATEGIES
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import VISUALIZERS as _VISUALIZERS

if TYPE_CHECKING:
    from torch import nn

MODELS = Registry(
    'model',
    parent=_MODELS,
    scope='mmeffvit',
    locations=[
        'mmeffvit.layers',
        'mmeffvit.backbones',
        'mmeffvit.necks',
        'mmeffvit.heads',
        'mmeffvit.denoising',
        'mmeffvit.matching',
    ],
)
DATASETS = Registry(
    'dataset',
    parent=_DATASETS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising', 'mmeffvit.matching'],
)
TRANSFORMS = Registry(
    'transform',
    parent=_TRANSFORMS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising', 'mmeffvit.matching'],
)
METRICS = Registry(
    'metric',
    parent=_METRICS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising', 'mmeffvit.matching'],
)
VISUALIZERS = Registry(
    'visualizer',
    parent=_VISUALIZERS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising', 'mmeffvit.matching'],
)
HOOKS = Registry('hook', parent=_HOOKS, scope='mmeffvit', locations=['mmeffvit.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmeffvit',
    locations=['mmeffvit.engine'],
)
STRATEGIES = Registry(
    'strategy', parent=_STRATEGIES, scope='mmeffvit', locations=['mmeffvit.engine']
)

# These hold nothing of ours, but without child registries each warns once per run of a denoiser.
for _root in (
    DATA_SAMPLERS,
    LOG_PROCESSORS,
    LOOPS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISBACKENDS,
):
    Registry(_root.name, parent=_root, scope='mmeffvit', locations=['mmeffvit.engine'])

#: What :func:`build_layer` takes.
LayerConfig = dict | str | Callable[..., 'nn.Module']


def build_layer(config: LayerConfig, **defaults) -> nn.Module:
    """Build a layer from a config.

    Args:
        config (dict | Callable | str): A class or partial; a registered name, of another package
            with its scope (``'my_project.MyAttention'``); or a dict of one of these as ``type`` and
            options. Names without a scope are those of this package, whatever the default scope.
        **defaults: Default arguments; values in the config take precedence.

    Returns:
        nn.Module: The layer.
    """
    if isinstance(config, str):
        config = dict(type=config)
    if not isinstance(config, dict):
        return config(**defaults)
    return MODELS.build({'_scope_': 'mmeffvit', **defaults, **config})


__all__ = [
    'DATASETS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'STRATEGIES',
    'TRANSFORMS',
    'VISUALIZERS',
    'LayerConfig',
    'build_layer',
]
