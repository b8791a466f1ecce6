"""A training run of each shapes recipe, cut down: data, loop, loss, checkpoint, evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine import Config
from mmengine.runner import Runner

from shapes import ShapesConfig, make_shapes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ('name', 'task', 'network'),
    [
        ('uformer_skipat_t_shapes', 'denoising', dict(arch=dict(embed_dims=4, depths=[1] * 9))),
        ('uniformer_skipat_shapes', 'video', dict(depths=[1, 1, 1, 1])),
    ],
)
def test_shapes_recipe(tmp_path, name, task, network):
    small = ShapesConfig(
        num_train=2, num_val=1, num_train_clips=1, num_val_clips=1, size_range=(72, 80)
    )
    make_shapes(tmp_path, small, [task])
    config = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    config.model.backbone.update(network)
    config.work_dir = str(tmp_path / 'work')
    config.train_cfg.update(max_iters=2, val_interval=2)
    config.default_hooks.checkpoint.interval = 2
    config.log_level = 'WARNING'
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.update(data_root=str(tmp_path / task), indices=1)
    config.experiment_name = f'{name}_{tmp_path.name}'
    runner = Runner.from_cfg(config)
    runner.train()
    assert list((tmp_path / 'work').glob('best_restoration_psnr_iter_2.pth'))
    metrics = runner.test()
    assert set(metrics) == {'restoration/psnr', 'restoration/ssim', 'restoration/noisy_psnr'}
    assert metrics['restoration/noisy_psnr'] == pytest.approx(18.6, abs=0.15)
