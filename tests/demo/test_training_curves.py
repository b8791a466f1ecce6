import json

import cv2
import pytest

from training_curves import plot_training, read_scalars


def write(work_dir, start, records, tail=''):
    path = work_dir / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(record) + '\n' for record in records) + tail)


def test_a_resumed_run_is_one_curve(tmp_path):
    write(tmp_path, '1', [dict(loss=3.0, step=1), dict(loss=2.0, step=2), dict(ap=0.1, step=1)])
    write(tmp_path, '2', [dict(loss=1.5, step=2), dict(loss=1.0, step=3)], tail='{"loss": 0')
    records = read_scalars(tmp_path)
    assert [record['loss'] for record in records if 'loss' in record] == [3.0, 1.5, 1.0]
    assert [record for record in records if 'loss' not in record] == [dict(ap=0.1, step=1)]


@pytest.mark.parametrize('validated', [True, False])
def test_curves_are_drawn(tmp_path, validated):
    records = [dict(loss=3.0, loss_cls=1.0, step=1), dict(loss=2.0, loss_cls=0.5, step=2)]
    write(tmp_path, '1', [*records, *([dict(ap=0.5, step=1)] if validated else [])])
    plot_training(tmp_path, dict(ap='AP'), tmp_path / 'curves.png', 'title')
    assert cv2.imread(str(tmp_path / 'curves.png')).std() > 10


def test_nothing_logged_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='train first'):
        plot_training(tmp_path, {}, tmp_path / 'curves.png')
