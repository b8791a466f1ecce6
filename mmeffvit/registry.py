"""Child registries of the mmengine roots, scope ``mmeffvit``.

Every library of the OpenMMLab family finds them by ``type='mmeffvit.Name'``, without
``custom_imports``: mmengine imports this module when it first meets the scope, and the
``locations`` when a name is first looked up.
"""

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
    ],
)
DATASETS = Registry(
    'dataset',
    parent=_DATASETS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising'],
)
TRANSFORMS = Registry(
    'transform',
    parent=_TRANSFORMS,
    scope='mmeffvit',
    locations=['mmeffvit.denoising'],
)
METRICS = Registry('metric', parent=_METRICS, scope='mmeffvit', locations=['mmeffvit.denoising'])
VISUALIZERS = Registry(
    'visualizer', parent=_VISUALIZERS, scope='mmeffvit', locations=['mmeffvit.denoising']
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

__all__ = [
    'DATASETS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'STRATEGIES',
    'TRANSFORMS',
    'VISUALIZERS',
]
