"""The comparison of LookupViT with a ViT: its costs, its picture and a tiny run of it."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

import elastic
from helpers.tool_runs import ROOT
from mmeffvit.cli.errors import UserError

COMPARISONS = list(elastic.COMPARISONS.values())


@pytest.mark.parametrize('one', COMPARISONS, ids=lambda one: one.model)
def test_every_compressed_size_costs_at_most_half_of_the_control(one):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmseg')
    macs, control = elastic.count_macs(one)
    assert macs == sorted(macs)
    assert macs[-1] <= control / 2


def test_the_picture_has_a_curve_per_task(tmp_path):
    results = [
        elastic.Result(
            np.array([[50, 52], [60, 61], [70, 75.0]]), [5, 6, 7], 14, np.array([70, 71])
        )
    ] * 2
    comparisons = [dataclasses.replace(COMPARISONS[0], sizes=(1, 2, 3))] * 2
    for count in (1, 2):
        path = tmp_path / f'{count}.png'
        elastic.draw(comparisons[:count], results[:count], path)
        picture = cv2.imread(str(path))
        assert picture.std() > 10
        assert picture.shape[1] / count == pytest.approx(750, abs=2)


@pytest.mark.slow
def test_demo_trains_tests_draws_and_is_reused(tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmseg')
    short = dict(
        classification='train_cfg = dict(max_epochs=1, val_interval=1)\n',
        segmentation='train_cfg = dict(max_iters=2, val_interval=2)\n'
        'default_hooks = dict(checkpoint=dict(interval=2))\n'
        'param_scheduler = None\n',
    )
    tiny = {}
    for task, one in elastic.COMPARISONS.items():
        for name in (one.model, one.control):
            (tmp_path / f'{name}.py').write_text(
                f"_base_ = '{ROOT}/configs/{name}.py'\n{short[task]}"
                'train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)\n'
                'val_dataloader = dict(num_workers=0, persistent_workers=False)\n'
                'test_dataloader = val_dataloader\n'
            )
        data = dataclasses.replace(one.data, num_train=8, num_val=4)
        tiny[task] = dataclasses.replace(one, data=data, sizes=(1, 3))
    monkeypatch.setattr(elastic, 'CONFIGS', tmp_path)
    monkeypatch.setattr(elastic, 'COMPARISONS', tiny)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['elastic.py', '--workers', '1'])
    elastic.main()
    printed = capsys.readouterr().out
    assert 'of the ViT' in printed and 'CPU time' in printed
    folder = tmp_path / 'work_dirs/elastic'
    for one in tiny.values():
        for name, count in ((one.model, 2), (one.control, 1)):
            metrics = json.loads((folder / f'{name}_seed0/metrics.json').read_text())
            assert len(metrics) == count
    assert cv2.imread(str(folder / 'elastic.png')).std() > 10
    elastic.main()
    assert capsys.readouterr().out.count('finished before') == 4


def test_an_unknown_task_is_named(monkeypatch):
    monkeypatch.setattr('sys.argv', ['elastic.py', 'counting'])
    with pytest.raises(UserError, match='counting is not one of classification, segmentation'):
        elastic.main()
