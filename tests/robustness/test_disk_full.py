"""Writers of every kind of output on a full disk: one sentence, and no file."""

import pytest

from helpers import forked
from mmeffvit.utils.images import SUFFIXES
from mmeffvit.utils.videos import CODECS

pytestmark = pytest.mark.slow

CASES = [
    *((forked.write_picture, suffix) for suffix in SUFFIXES),
    *((forked.write_video, suffix) for suffix in CODECS),
    (forked.write_predictions, '.json'),
    (forked.write_converted, '.pth'),
    (forked.write_converted, '.safetensors'),
    (forked.write_training_state, '.pth'),
    (forked.write_plot, '.png'),
]


@pytest.mark.parametrize('before', [False, True], ids=['new', 'replaced'])
@pytest.mark.parametrize(
    ('write', 'suffix'), CASES, ids=lambda value: getattr(value, '__name__', value)
)
def test_a_full_disk_leaves_what_was_there(figure, tmp_path, write, suffix, before):
    path = tmp_path / f'out{suffix}'
    if before:
        path.write_bytes(b'earlier')
    here, there = forked.pipe()
    code = forked.ended(forked.start(forked.write_limited, write, path, 20000, there))
    raised = here.recv() if here.poll() else ('died', code)
    held = raised is not None and raised[0] in ('OSError', 'CheckpointError')
    left = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    held = held and left == ({path.name: b'earlier'} if before else {})
    figure('full disk, every writer', 1, held)
    assert held, (raised, sorted(left))
    assert '\n' not in raised[1]
