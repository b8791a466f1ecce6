"""Every command and every example of the documentation works."""

import re
import runpy
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from helpers.doc_pages import DOCS, commands, read_blocks, write_files
from helpers.tool_runs import ROOT

PAGES = sorted(DOCS.glob('*.md'))
#: What is not a script of ours, and not checked.
FOREIGN = {'.', 'make', 'pip'}
#: Weights that pages speak of; made at random where they do.
WEIGHTS = {
    'denoiser.pth': 'uformer_skipat_t_sidd.py',
    'detector.pth': 'retinanet_slide_pvtv2_b0_shapes.py',
    'matcher.pth': 'quadtree_matcher_t_shapes.py',
    'stereo.pth': 'sttr_t_shapes.py',
}


@pytest.fixture
def folder(tmp_path, monkeypatch, shapes):
    """A folder as users work in: tools, configs, a little data, photographs to try."""
    for name in ('tools', 'benchmarks', 'configs', 'demo'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/shapes').symlink_to(shapes)
    (tmp_path / 'photos').mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(f'{tmp_path}/photos/{i}.png', pixels)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def make_weights(page, folder):
    """Save the weights that a page speaks of."""
    for name, config in WEIGHTS.items():
        if name in page.read_text():
            cfg = Config.fromfile(ROOT / 'configs' / config)
            init_default_scope(cfg.default_scope)
            torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / name)


def run(monkeypatch, words):
    """Run a command in this process."""
    if words[:2] == ['python', '-m']:
        words = words[2:]
        monkeypatch.setattr(sys, 'argv', words)
        try:
            runpy.run_module(words[0], run_name='__main__')
        except SystemExit as end:
            return end.code or 0
        return 0
    words = words[1:] if words[0] == 'python' else words
    monkeypatch.setattr(sys, 'argv', words)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / words[0]), run_name='__main__')
    return end.value.code or 0


def check(monkeypatch, capsys, words):
    """Check that a command's script, options and configs exist, without running it."""
    script, *arguments = words
    if script in FOREIGN:
        return
    assert (ROOT / script).is_file(), script
    configs = [word for word in arguments if word.startswith('configs/')]
    for config in configs:
        assert (ROOT / config).is_file(), config
    if script.endswith('.sh'):
        script = f'tools/{"test" if "test" in script else "train"}.py'
    assert run(monkeypatch, [script, '--help']) == 0
    known = capsys.readouterr().out
    for option in (word.partition('=')[0] for word in arguments if word.startswith('--')):
        assert re.search(rf'{option}\b', known), f'{script} has no {option}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_page(page, folder, monkeypatch, capsys):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    write_files(page, folder)
    make_weights(page, folder)
    names = {}
    for block in read_blocks(page):
        place = f'{page.name}:{block.line}'
        if block.mark == 'file':
            text = block.text
            if '_base_' in text or 'model = ' in text:
                Config.fromfile(folder / block.value)
        elif block.language == 'python':
            code = compile(block.text, place, 'exec')
            if block.mark != 'not run':
                exec(code, names)
        else:
            for words in commands(block.text):
                if block.mark == 'not run':
                    check(monkeypatch, capsys, words)
                else:
                    assert run(monkeypatch, words) == 0, f'{place}: {capsys.readouterr().err}'


@pytest.mark.parametrize('page', [*PAGES, ROOT / 'README.md'], ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\((?!https?:)([^)#]+)[^)]*\)', page.read_text()):
        assert (page.parent / target).exists(), f'{page.name} links to {target}'
