"""tools/match.py and tools/stereo.py: results of files, and one line for a mistake."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from helpers.tool_runs import ROOT, run_tool
from mmeffvit.matching import HomographyPairs
from mmeffvit.models import build_model
from mmeffvit.stereo import LayeredStereo, read_disparity

MATCHER = f"""
_base_ = '{ROOT}/configs/quadtree_matcher_t_shapes.py'
model = dict(coarse=dict(threshold=0.0, border=0))
"""
STEREO = f"_base_ = '{ROOT}/configs/sttr_t_shapes.py'\n"


def make_model(folder, text) -> tuple[str, str]:
    config, weights = folder / 'config.py', folder / 'weights.pth'
    config.write_text(text)
    torch.manual_seed(0)
    torch.save(build_model(config).state_dict(), weights)
    return str(config), str(weights)


@pytest.fixture
def pictures(tmp_path):
    pair = HomographyPairs(1, (72, 104), (64, 88), pipeline=[]).get_data_info(0)
    for side, folder in enumerate(('one', 'two')):
        (tmp_path / folder).mkdir()
        for name in ('a', 'b'):
            image = (255 * pair[f'image{side}']).astype(np.uint8)
            cv2.imwrite(str(tmp_path / folder / f'{name}.png'), image)
    return tmp_path


def test_two_images_of_different_sizes(pictures, monkeypatch, capsys):
    model, out = make_model(pictures, MATCHER), pictures / 'out'
    np.savetxt(pictures / 'k.txt', np.array([[80.0, 0, 52], [0, 80, 36], [0, 0, 1]]))
    pair = pictures / 'one/a.png', pictures / 'two/a.png'
    code = run_tool(
        monkeypatch, 'match.py', *model, *pair, '--out', out, '--homography', '--pose',
        pictures / 'k.txt', '--max-matches', 30,
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    with np.load(out / 'a-a.npz') as found:
        assert {'points0', 'points1', 'confidence', 'homography', 'rotation'} <= set(found.files)
        assert 8 <= len(found['points0']) <= 30
        assert (np.diff(found['confidence']) <= 0).all()
        rows = np.loadtxt(out / 'a-a.csv', delimiter=',', skiprows=1)
        np.testing.assert_allclose(rows[:, :2], found['points0'], atol=1e-3)
    assert cv2.imread(str(out / 'a-a.png')).shape == (72, 104 + 88, 3)
    assert cv2.imread(str(out / 'a-a_overlay.png')).shape == (64, 88, 3)


def test_folders_and_lists_with_a_damaged_picture(pictures, monkeypatch, capsys):
    model, out = make_model(pictures, MATCHER), pictures / 'out'
    (pictures / 'two' / 'b.png').write_bytes(b'no picture')
    folders = pictures / 'one', pictures / 'two'
    assert run_tool(monkeypatch, 'match.py', *model, *folders, '--out', out) == 1
    assert 'b.png' in capsys.readouterr().err and (out / 'a-a.npz').is_file()
    (pictures / 'pairs.txt').write_text('one/a.png two/a.png\none/b.png two/a.png\n')
    assert run_tool(monkeypatch, 'match.py', *model, pictures / 'pairs.txt', '--out', out) == 0
    assert (out / 'b-a.csv').is_file()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['one/a.png', 'no.png'], 'There is nothing at'),
        (['one/a.png', 'two'], 'two images or two folders'),
        (['one/a.png', 'two/a.png', '--pose', 'no.txt'], 'no file of intrinsics'),
        (['one/a.png', 'two/a.png', '--long-side', '-1'], 'whole number'),
    ],
)
def test_mistakes_are_one_line(pictures, monkeypatch, capsys, arguments, message):
    model = make_model(pictures, MATCHER)
    monkeypatch.chdir(pictures)
    assert run_tool(monkeypatch, 'match.py', *model, *arguments, '--out', 'out') == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and not (pictures / 'out').exists()


def test_the_config_of_another_task(pictures, monkeypatch, capsys):
    _, weights = make_model(pictures, MATCHER)
    (pictures / 'config.py').write_text(STEREO)
    pair = pictures / 'one/a.png', pictures / 'two/a.png'
    arguments = pictures / 'config.py', weights, *pair, '--out', pictures / 'out'
    assert run_tool(monkeypatch, 'match.py', *arguments) == 2
    assert 'no FeatureMatcher' in capsys.readouterr().err


@pytest.fixture
def stereo_pictures(tmp_path):
    scene = LayeredStereo(1, (40, 64), pipeline=[]).get_data_info(0)
    for side in ('left', 'right'):
        (tmp_path / side).mkdir()
        cv2.imwrite(str(tmp_path / side / 'a.png'), scene[side][..., ::-1])
    return tmp_path


def test_stereo_files(stereo_pictures, monkeypatch, capsys):
    model, out = make_model(stereo_pictures, STEREO), stereo_pictures / 'out'
    pair = stereo_pictures / 'left', stereo_pictures / 'right'
    code = run_tool(monkeypatch, 'stereo.py', *model, *pair, '--out', out, '--depth', '500', '0.2')
    assert code == 0, capsys.readouterr().err
    exact, rounded = (read_disparity(out / f'a.{suffix}') for suffix in ('pfm', 'png'))
    assert exact.shape == (40, 64) and np.abs(exact - rounded).max() <= 1 / 256
    depth = cv2.imread(str(out / 'a_depth.pfm'), cv2.IMREAD_UNCHANGED)
    known = exact > 1e-3
    np.testing.assert_allclose(depth[known], 100 / exact[known], rtol=1e-4)
    assert cv2.imread(str(out / 'a_colour.png')).shape == (40, 64, 3)
    assert set(np.unique(cv2.imread(str(out / 'a_occlusion.png')))) <= {0, 255}


def test_stereo_mistakes_are_one_line(stereo_pictures, monkeypatch, capsys):
    model, out = make_model(stereo_pictures, STEREO), stereo_pictures / 'out'
    left, right = stereo_pictures / 'left/a.png', stereo_pictures / 'right/a.png'
    arguments = (*model, left, right, '--out', out, '--depth', '0', '1')
    assert run_tool(monkeypatch, 'stereo.py', *arguments) == 2
    assert 'must be positive' in capsys.readouterr().err
    cv2.imwrite(str(right), np.zeros((30, 64, 3), np.uint8))
    assert run_tool(monkeypatch, 'stereo.py', *model, left, right, '--out', out) == 1
    assert 'left image is 40x64 and the right one 30x64' in capsys.readouterr().err
