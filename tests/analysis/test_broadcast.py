from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmeffvit.analysis.broadcast import draw_broadcast, global_broadcast
from mmeffvit.backbones import DualTokenViT, PVTv2

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'visualization' / 'global_broadcast.py'
CONFIG = ROOT / 'configs' / 'dualtoken_t_imagenet.py'
SMALLEST = dict(embed_dims=(8, 16, 32), depths=(1, 2, 1))


@pytest.mark.parametrize('stage, grid', [(0, (13, 17)), (1, (7, 9)), (-1, (4, 5))])
def test_weights_of_any_stage(stage, grid):
    backbone = DualTokenViT(SMALLEST, token_size=(3, 4)).eval()
    weights = global_broadcast(backbone, torch.randn(1, 3, 100, 130), stage)
    assert weights.shape == (*grid, 12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(grid))
    assert not backbone.stages[stage].blocks[-1].attn._forward_pre_hooks


@pytest.mark.parametrize('backbone', [PVTv2('b0'), DualTokenViT(SMALLEST, token_size=0)])
def test_a_backbone_without_global_tokens(backbone):
    with pytest.raises(ValueError, match='broadcasts no global tokens'):
        global_broadcast(backbone, torch.randn(1, 3, 64, 64))


def test_the_picture_is_brightest_where_the_weight_is():
    image = np.zeros((40, 80, 3), np.uint8)
    weights = np.zeros((4, 8, 6), np.float32)
    weights[1, 6, 4] = 1  # row 1, column 1 of a 2x3 token grid
    picture = draw_broadcast(image, weights, (2, 3), [(1, 1)])
    panel = picture[2:42, 86:166].astype(int)  # beside the image, 4 pixels apart
    row, column = np.unravel_index(panel[..., 1].argmax(), panel.shape[:2])
    assert (row // 10, column // 10) == (1, 6)
    assert (panel[20, 27] == (40, 40, 230)).all()  # the corner of the token's cell


def run(*args):
    command = [sys.executable, str(TOOL), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_command(tmp_path):
    cv2.imwrite(str(tmp_path / 'image.png'), np.random.randint(0, 255, (75, 110, 3), np.uint8))
    state = {f'backbone.{k}': v for k, v in DualTokenViT('tiny').state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'model.pth')
    out = tmp_path / 'picture.png'
    done = run(
        CONFIG, tmp_path / 'model.pth', tmp_path / 'image.png', out, '--tokens', '3,3', '0,6'
    )
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(out)).shape == (79, 3 * 114, 3)
    wrong = run(CONFIG, tmp_path / 'model.pth', tmp_path / 'image.png', out, '--tokens', '7,0')
    assert wrong.returncode == 2
    assert wrong.stderr == 'error: --tokens 7,0 is outside the grid of 7x7 tokens.\n'
