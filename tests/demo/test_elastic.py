"""The comparison of LookupViT with a ViT: its costs, its picture and a tiny run of it."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

import elastic
from conftest import SHAPES
from helpers.tool_runs import ROOT

COMPARISONS = [one for demo in elastic.COMPARISONS.values() for one in demo]


@pytest.mark.parametrize('one', COMPARISONS, ids=lambda one: one.model)
def test_the_size_of_the_config_costs_at_most_half_of_the_control(one):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmseg')
    nominal = elastic.Config.fromfile(elastic.CONFIGS / f'{one.model}.py').model.backbone
    macs, control = elastic.count_macs(one)
    assert macs == sorted(macs)
    assert macs[one.sizes.index(nominal.compressed_size[0])] <= control / 2


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
    for name in ('lookupvit_ti_shapes', 'vit_ti_shapes'):
        (tmp_path / f'{name}.py').write_text(
            f"_base_ = '{ROOT}/configs/{name}.py'\n"
            'train_cfg = dict(max_epochs=1, val_interval=1)\n'
            'train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)\n'
            'val_dataloader = dict(num_workers=0, persistent_workers=False)\n'
            'test_dataloader = val_dataloader\n'
        )
    tiny = dataclasses.replace(COMPARISONS[0], data=SHAPES, sizes=(1, 3))
    monkeypatch.setattr(elastic, 'CONFIGS', tmp_path)
    monkeypatch.setattr(elastic, 'COMPARISONS', dict(classification=(tiny,)))
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', ['elastic.py', 'classification', '--workers', '1'])
    elastic.main()
    assert 'ViT' in capsys.readouterr().out
    folder = tmp_path / 'work_dirs/elastic'
    assert len(json.loads((folder / 'lookupvit_ti_shapes_seed0/metrics.json').read_text())) == 2
    assert len(json.loads((folder / 'vit_ti_shapes_seed0/metrics.json').read_text())) == 1
    assert cv2.imread(str(folder / 'classification.png')).std() > 10
    elastic.main()
    assert capsys.readouterr().out.count('finished before') == 2
