import pytest

from mmeffvit.datasets.shapes import ShapesConfig, make_shapes

SHAPES = ShapesConfig(
    num_train=8,
    num_val=4,
    size_range=(64, 90),
    num_train_clips=1,
    num_val_clips=1,
    num_frames=3,
)


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """Folder of a tiny shapes dataset, all tasks of it."""
    out = tmp_path_factory.mktemp('shapes')
    make_shapes(out, SHAPES)
    return out
