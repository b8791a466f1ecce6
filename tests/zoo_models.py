"""Small models of every family, by the names that the package lists."""

from __future__ import annotations

from mmeffvit.registry import MODELS

MODELS.import_from_location()

#: The first model of every class, its smallest.
SMALLEST = [
    next(iter(vars(cls)['zoo'])) for cls in MODELS.module_dict.values() if vars(cls).get('zoo')
]
