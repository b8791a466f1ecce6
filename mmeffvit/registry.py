"""Child registries of the mmengine roots, scope ``mmeffvit``.

Every library of the OpenMMLab family finds them by ``type='mmeffvit.Name'``, without
``custom_imports``: mmengine imports this module when it first meets the scope, and the
``locations`` when a name is first looked up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mmengine import registry as roots
from mmengine.registry import Registry

if TYPE_CHECKING:
    from torch import nn

MODELS = Registry(
    'model',
    parent=roots.MODELS,
    scope='mmeffvit',
    locations=[
        'mmeffvit.layers',
        'mmeffvit.backbones',
        'mmeffvit.necks',
        'mmeffvit.heads',
        'mmeffvit.denoising',
        'mmeffvit.matching',
        'mmeffvit.stereo',
    ],
)
DATASETS = Registry(
    'dataset',
    parent=roots.DATASETS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising', 'mmeffvit.matching', 'mmeffvit.stereo'],
)
TRANSFORMS = Registry(
    'transform',
    parent=roots.TRANSFORMS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising', 'mmeffvit.matching', 'mmeffvit.stereo'],
)
METRICS = Registry(
    'metric',
    parent=roots.METRICS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising', 'mmeffvit.matching', 'mmeffvit.stereo'],
)
VISUALIZERS = Registry(
    'visualizer',
    parent=roots.VISUALIZERS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising', 'mmeffvit.matching', 'mmeffvit.stereo'],
)
HOOKS = Registry('hook', parent=roots.HOOKS, scope='mmeffvit', locations=['mmeffvit.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=roots.OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmeffvit',
    locations=['mmeffvit.engine'],
)
STRATEGIES = Registry(
    'strategy', parent=roots.STRATEGIES, scope='mmeffvit', locations=['mmeffvit.engine']
)

# These hold nothing of ours, but without child registries each warns once per run of a denoiser.
for _root in (
    roots.DATA_SAMPLERS,
    roots.LOG_PROCESSORS,
    roots.LOOPS,
    roots.OPTIM_WRAPPERS,
    roots.OPTIMIZERS,
    roots.PARAM_SCHEDULERS,
    roots.VISBACKENDS,
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
