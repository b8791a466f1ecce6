"""Files damaged as disks, networks and kills damage them."""

import numpy as np


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with some bytes changed, cut, doubled or left out."""
    data = bytearray(data)
    kind = rng.integers(5)
    start, stop = sorted(rng.integers(0, len(data), 2))
    if kind == 0:
        for place in rng.integers(0, len(data), rng.integers(1, 20)):
            data[place] = rng.integers(256)
    elif kind == 1:
        del data[start:]
    elif kind == 2:
        data[start:stop] = bytes(stop - start)
    elif kind == 3:
        del data[start : start + int(rng.integers(1, 64))]
    else:
        data[start:start] = data[start:stop]
    return bytes(data)
