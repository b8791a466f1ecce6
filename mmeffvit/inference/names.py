from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

from mmengine.infer import BaseInferencer

_INDEX = Path(__file__).parents[1] / '.mim' / 'model-index.yml'


def enable_model_names() -> None:
    """Let the frameworks' inferencers find our models by name.

    mmengine's inferencers search the metafiles of the framework's package for a name, and expect
    weights there; our metafiles are added to every framework's, and registered in mmpretrain's
    hub. Called once, when :mod:`mmeffvit.inference` is imported.

    Example:
        >>> DetInferencer('retinanet_quadtree_b2_coco', weights='epoch_12.pth')
    """
    of_package = BaseInferencer._get_models_from_metafile

    def with_ours(dir: str) -> Generator[dict, None, None]:
        yield from of_package(dir)
        for entry in of_package(str(_INDEX.parent)):
            yield {'Weights': None, **entry, 'Config': str(_INDEX.parent / entry['Config'])}

    BaseInferencer._get_models_from_metafile = staticmethod(with_ours)
    if find_spec('mmpretrain'):
        from mmpretrain.apis import ModelHub

        ModelHub.register_model_index(_INDEX, config_prefix=_INDEX.parent)
