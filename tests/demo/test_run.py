from importlib.util import module_from_spec, spec_from_file_location

import cv2
import pytest

from conftest import SHAPES
from helpers.tool_runs import ROOT, TINY_DETECTOR

pytestmark = pytest.mark.slow


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """``demo/run.py`` with a tiny model and tiny data, in an empty folder."""
    pytest.importorskip('mmdet')
    spec = spec_from_file_location('demo', ROOT / 'demo/run.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    config = tmp_path / 'tiny.py'
    config.write_text(TINY_DETECTOR + 'train_cfg = dict(max_epochs=2, val_interval=1)\n')
    monkeypatch.setattr(module, 'CONFIG', config)
    monkeypatch.setattr(module, 'ShapesConfig', lambda: SHAPES)
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.chdir(tmp_path)
    return module


def test_demo_trains_shows_and_is_reused(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['run.py', '--seed', '3'])
    demo.main()
    shown = capsys.readouterr().out
    work_dir = tmp_path / 'work_dirs/demo_seed3'
    assert 'device: ' in shown
    assert 'AP50' in shown
    for name in ('epoch_2.pth', 'predictions.png', 'curves.png', 'train.log'):
        assert (work_dir / name).is_file()
        assert f'work_dirs/demo_seed3/{name}' in shown
    for name in ('predictions.png', 'curves.png'):
        assert cv2.imread(str(work_dir / name)).std() > 10
    stamps = {
        path: path.stat().st_mtime_ns
        for path in [work_dir / 'epoch_2.pth', work_dir / 'test/predictions.pkl']
    }
    demo.main()
    assert 'finished before' in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_demo_reports_a_failure_with_its_log(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['run.py'])
    (tmp_path / 'tiny.py').write_text(TINY_DETECTOR + "default_scope = 'mmpose'\n")
    with pytest.raises(demo.UserError, match=r'train\.py failed.*train\.log'):
        demo.main()
    assert "default_scope='mmpose' of the config is unknown" in capsys.readouterr().out
