from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path

from mmengine.infer import BaseInferencer

_INDEX = Path(__file__).parents[1] / '.mim' / 'model-index.yml'


def enable_model_names() -> None:
    """Make ``DetInferencer('retinanet_quadtree_b2_coco', weights=…)`` and its like work.

    mmengine's inferencers look a name up in the metafiles of the framework's own package, and
    expect weights there; ours are added to every framework's. mmpretrain has a hub for such. To be
    called once; importing :mod:`mmeffvit.inference` does.
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
