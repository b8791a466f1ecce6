"""Arguments of version 0.1, replaced by those of today; removed in version 0.3."""

from __future__ import annotations

import warnings


def adopt_options(options: dict, *names: str) -> dict:
    """Move arguments of version 0.1 that belong to the attention layer into ``attention``.

    Args:
        options (dict): Keyword arguments of a constructor.
        *names (str): Those that the layer has now.

    Returns:
        dict: The arguments, ``attention`` among them if there are any of these.
    """
    options = dict(options)
    moved = {name: options.pop(name) for name in names if name in options}
    if moved:
        warnings.warn(
            f'{", ".join(moved)} are options of the attention layer: write attention=dict('
            + ', '.join(f'{name}={value!r}' for name, value in moved.items())
            + ').',
            DeprecationWarning,
            stacklevel=3,
        )
        options['attention'] = {**moved, **(options.get('attention') or {})}
    return options
