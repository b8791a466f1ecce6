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

_TASKS = ('denoising', 'matching', 'stereo')


def _child(root: Registry, *packages: str) -> Registry:
    """Make the child of a root registry whose entries are in some of our packages."""
    locations = [f'mmeffvit.{package}' for package in packages]
    return Registry(root.name, parent=root, scope='mmeffvit', locations=locations)


MODELS = _child(roots.MODELS, 'layers', 'backbones', 'necks', 'heads', *_TASKS)
DATASETS = _child(roots.DATASETS, *_TASKS)
DATA_SAMPLERS = _child(roots.DATA_SAMPLERS, 'matching')
TRANSFORMS = _child(roots.TRANSFORMS, *_TASKS)
METRICS = _child(roots.METRICS, *_TASKS)
VISUALIZERS = _child(roots.VISUALIZERS, *_TASKS)
HOOKS = _child(roots.HOOKS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(roots.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
STRATEGIES = _child(roots.STRATEGIES, 'engine')

# These hold nothing of ours, but without child registries each warns once per run of a denoiser.
for _root in (
    roots.LOG_PROCESSORS,
    roots.LOOPS,
    roots.OPTIM_WRAPPERS,
    roots.OPTIMIZERS,
    roots.PARAM_SCHEDULERS,
    roots.VISBACKENDS,
):
    _child(_root, 'engine')

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
    'DATA_SAMPLERS',
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
