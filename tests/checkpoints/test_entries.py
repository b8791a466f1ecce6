"""A malicious checkpoint through every way into the package and into the frameworks under it.

The ways in are found in the sources, so that a new one without a case here fails.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import nn

from helpers import malice
from helpers.servers import serve
from helpers.tiny_runs import runner
from helpers.tool_runs import ROOT, TINY_CLASSIFIER, TINY_DETECTOR, run_tool
from mmeffvit.checkpoints import CheckpointError, load_weights, read_checkpoint, read_weights

SOURCES = ('mmeffvit', 'tools', 'demo', 'benchmarks', 'scripts')
READERS = {'read_weights', 'read_checkpoint', 'load_weights', 'find_latest_checkpoint'}
#: What no source may call by itself: readers that run what they read.
FORBIDDEN = re.compile(
    r'torch\.load\(|pickle\.loads?\(|weights_only=False|load_state_dict_from_url|hub\.load\('
    r'|allow_pickle=True|joblib\.load|yaml\.(unsafe_)?load\('
)
OPTIONS = re.compile(r'checkpoint|weights|resume|pretrained|^src$')

DENOISER = f"""
_base_ = '{ROOT}/configs/uformer_t_shapes.py'
model = dict(backbone=dict(arch=dict(_delete_=True, embed_dims=4, depths=(1,) * 9)))
"""
SEGMENTOR = f"_base_ = '{ROOT}/configs/deeplabv3_dualtoken_t_shapes.py'\n"
MATCHER = f"_base_ = '{ROOT}/configs/quadtree_matcher_t_shapes.py'\n"
STEREO = f"_base_ = '{ROOT}/configs/sttr_t_shapes.py'\n"
ELASTIC = f"_base_ = '{ROOT}/configs/lookupvit_ti_shapes.py'\n"


class Net(BaseModule):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.layer = nn.Linear(2, 2)


class Place:
    """What a case needs: a folder with configs, a picture and data, and the means to run tools."""

    def __init__(self, folder, shapes, monkeypatch):
        self.folder = folder
        self.shapes = shapes
        self.monkeypatch = monkeypatch
        texts = dict(
            detector=TINY_DETECTOR,
            classifier=TINY_CLASSIFIER,
            segmentor=SEGMENTOR,
            denoiser=DENOISER,
            matcher=MATCHER,
            stereo=STEREO,
            elastic=ELASTIC,
        )
        for name, text in texts.items():
            (folder / f'{name}.py').write_text(text)
        cv2.imwrite(str(folder / 'a.png'), np.zeros((64, 64, 3), np.uint8))

    def config(self, name):
        return str(self.folder / f'{name}.py')

    def tool(self, name, *arguments):
        code = run_tool(self.monkeypatch, name, *arguments)
        assert code == 2, code

    def train(self, *arguments):
        data = ['--data-root', self.shapes / 'classification', '--work-dir', self.folder / 'work']
        self.tool('train.py', self.config('classifier'), *data, *arguments)


def _init_weights(address, **options):
    Net(dict(type='Pretrained', checkpoint=address, **options)).init_weights()


def _latest(place, address):
    """The newest checkpoint is passed over, so that nothing is left to resume."""
    from mmeffvit.checkpoints.latest import find_latest_checkpoint

    folder = place.folder / 'runs'
    folder.mkdir(exist_ok=True)
    malice.write_zip(folder / 'epoch_1.pth', place.folder / 'mark')
    assert find_latest_checkpoint(folder) is None
    raise CheckpointError('posix.system')  # its refusal is printed, not raised


def _get_model(address):
    from mmeffvit import get_model

    get_model('lightvit_t', pretrained=address)


def _denoiser(place, address):
    from mmeffvit.denoising import Denoiser

    Denoiser.from_config(place.config('denoiser'), address)


def _matcher(place, address):
    from mmeffvit.matching import Matcher

    Matcher.from_config(place.config('matcher'), address)


def _stereo(place, address):
    from mmeffvit.stereo import StereoMatcher

    StereoMatcher.from_config(place.config('stereo'), address)


def _predictor(name):
    def run(place, address):
        from mmeffvit.inference import build_predictor

        build_predictor(Config.fromfile(place.config(name)), address)

    return run


def _infer(place, address):
    from mmeffvit.inference import infer

    config = Config.fromfile(place.config('classifier'))
    infer(config, address, [place.folder / 'a.png'], place.folder / 'out')


def _backbone(place, address):
    from mmeffvit.models import load_backbone

    load_backbone(place.config('classifier'), address)


def _det_inferencer(place, address):
    from mmdet.apis import DetInferencer

    DetInferencer(place.config('detector'), weights=address, device='cpu')


def _seg_inferencer(place, address):
    from mmseg.apis import MMSegInferencer

    MMSegInferencer(place.config('segmentor'), weights=address, device='cpu')


def _cls_inferencer(place, address):
    from mmpretrain.apis import ImageClassificationInferencer

    ImageClassificationInferencer(place.config('classifier'), pretrained=address, device='cpu')


def _init_detector(place, address):
    from mmdet.apis import init_detector

    init_detector(place.config('detector'), address, device='cpu')


def _init_segmentor(place, address):
    from mmseg.apis import init_model

    init_model(place.config('segmentor'), address, device='cpu')


def _mmpretrain_model(place, address):
    from mmpretrain import get_model

    get_model(place.config('classifier'), pretrained=address)


def _weights(command):
    """The tool takes names: the file is put where one is looked for."""

    def run(place, address):
        evil = place.folder / 'evil.pth'
        if evil.exists():
            evil.rename(place.folder / 'quadtree_b0.pth')
        place.monkeypatch.setenv('MMEFFVIT_WEIGHTS', str(place.folder))
        place.tool('weights.py', command, 'quadtree_b0')

    return run


def _run(**options):
    def run(place, address):
        runner(place.folder / 'run', load_from=address, **options).train()

    return run


def _auto_resume(place, address):
    folder = place.folder / 'auto'
    folder.mkdir(exist_ok=True)
    (folder / 'last_checkpoint').write_text(address)
    run = runner(folder, resume=True)
    run.load_or_resume()
    assert run.iter == 0
    raise CheckpointError('posix.system')


OPTIONS_OF_TRAIN = {
    'load_from': lambda address: ['--cfg-options', f'load_from={address}'],
    'resume': lambda address: ['--resume', address],
    'resume_true': lambda address: ['--cfg-options', f'load_from={address}', 'resume=True'],
    'init_cfg': lambda address: [
        *('--cfg-options', 'model.backbone.init_cfg.type=Pretrained'),
        f'model.backbone.init_cfg.checkpoint={address}',
    ],
    'init_cfg_prefix': lambda address: [
        *('--cfg-options', 'model.backbone.init_cfg.type=Pretrained'),
        f'model.backbone.init_cfg.checkpoint={address}',
        'model.backbone.init_cfg.prefix=backbone',
    ],
}


def _train(kind):
    return lambda place, address: place.train(*OPTIONS_OF_TRAIN[kind](address))


#: Name to what is done with a malicious address, and the places in the sources that it covers.
CASES = {
    'read_weights': (lambda p, a: read_weights(a), 'mmeffvit/checkpoints/read.py:read_weights'),
    'read_checkpoint': (lambda p, a: read_checkpoint(a),),
    'load_weights': (
        lambda p, a: load_weights(Net(), a),
        'mmeffvit/checkpoints/load.py:load_weights',
    ),
    'latest': (_latest, 'mmeffvit/checkpoints/latest.py:find_latest_checkpoint'),
    'init_cfg': (
        lambda p, a: _init_weights(a),
        'mmeffvit/checkpoints/protect.py:load_checkpoint',
    ),
    'init_cfg_prefix': (lambda p, a: _init_weights(a, prefix='backbone.'),),
    'open_published': (
        lambda p, a: read_weights(a),
        'mmeffvit/checkpoints/published.py:convert_published',
    ),
    'get_model': (lambda p, a: _get_model(a), 'mmeffvit/models.py:get_model'),
    'load_backbone': (_backbone, 'mmeffvit/models.py:load_backbone'),
    'Denoiser': (_denoiser, 'mmeffvit/denoising/runtime/denoiser.py:from_config'),
    'predictor_mmdet': (
        _predictor('detector'),
        'mmeffvit/inference/predictors.py:build_predictor',
    ),
    'predictor_mmseg': (_predictor('segmentor'),),
    'predictor_mmpretrain': (_predictor('classifier'),),
    'infer': (_infer,),
    'DetInferencer': (_det_inferencer,),
    'MMSegInferencer': (_seg_inferencer,),
    'ImageClassificationInferencer': (_cls_inferencer,),
    'init_detector': (_init_detector,),
    'init_model': (_init_segmentor,),
    'mmpretrain.get_model': (_mmpretrain_model,),
    'Runner load_from': (_run(),),
    'Runner resume': (_run(resume=True),),
    'Runner auto resume': (_auto_resume,),
    'Runner EMA': (_run(hooks=[dict(type='EMAHook')]),),
    'train load_from': (_train('load_from'), 'mmeffvit/cli/training.py:preview_weights'),
    'train --resume': (
        _train('resume'),
        'mmeffvit/cli/training.py:enable_resume',
        'tools/train.py:--resume',
    ),
    'train resume=True': (_train('resume_true'),),
    'train init_cfg': (_train('init_cfg'),),
    'train init_cfg prefix': (_train('init_cfg_prefix'),),
    'test': (
        lambda p, a: p.tool('test.py', p.config('classifier'), a),
        'tools/test.py:run',
        'tools/test.py:checkpoint',
    ),
    'infer.py': (
        lambda p, a: p.tool(
            *('infer.py', p.config('detector'), a, p.folder / 'a.png', '--out', p.folder / 'out')
        ),
        'tools/infer.py:checkpoint',
    ),
    'denoise.py': (
        lambda p, a: p.tool(
            *('denoise.py', p.config('denoiser'), a, p.folder / 'a.png', '--out', p.folder / 'out')
        ),
        'tools/denoise.py:checkpoint',
    ),
    'Matcher': (_matcher, 'mmeffvit/matching/runtime/matcher.py:from_config'),
    'StereoMatcher': (_stereo, 'mmeffvit/stereo/runtime/matcher.py:from_config'),
    'match.py': (
        lambda p, a: p.tool(
            *('match.py', p.config('matcher'), a, p.folder / 'a.png', p.folder / 'a.png'),
            *('--out', p.folder / 'out'),
        ),
        'tools/match.py:checkpoint',
    ),
    'export_matcher.py': (
        lambda p, a: p.tool(
            'deployment/export_matcher.py', p.config('matcher'), a, p.folder / 'x.onnx'
        ),
        'tools/deployment/export_matcher.py:checkpoint',
    ),
    'stereo.py': (
        lambda p, a: p.tool(
            *('stereo.py', p.config('stereo'), a, p.folder / 'a.png', p.folder / 'a.png'),
            *('--out', p.folder / 'out'),
        ),
        'tools/stereo.py:checkpoint',
    ),
    'elastic_eval': (
        lambda p, a: p.tool('analysis_tools/elastic_eval.py', p.config('elastic'), a),
        'tools/analysis_tools/elastic_eval.py:main',
        'tools/analysis_tools/elastic_eval.py:checkpoint',
    ),
    'layer_similarity': (
        lambda p, a: p.tool(
            *('analysis_tools/layer_similarity.py', p.config('classifier')),
            *(p.shapes / 'classification', '--checkpoint', a, '--out', p.folder / 'similarity'),
        ),
        'tools/analysis_tools/layer_similarity.py:--checkpoint',
    ),
    'attention': (
        lambda p, a: p.tool(
            *('visualization/attention.py', p.config('classifier'), a),
            *(p.folder / 'a.png', p.folder / 'sheet.png'),
        ),
        'tools/visualization/attention.py:checkpoint',
    ),
    'export_onnx': (
        lambda p, a: p.tool(
            'deployment/export_onnx.py', p.config('classifier'), a, p.folder / 'x.onnx'
        ),
        'tools/deployment/export_onnx.py:main',
        'tools/deployment/export_onnx.py:checkpoint',
    ),
    'weights get': (_weights('get'), 'tools/weights.py:get'),
    'weights info': (_weights('info'), 'mmeffvit/checkpoints/summary.py:summarise'),
    'publish': (
        lambda p, a: p.tool('publish.py', a, p.folder / 'x.safetensors'),
        'tools/publish.py:main',
        'tools/publish.py:checkpoint',
    ),
    'convert_checkpoint': (
        lambda p, a: p.tool(
            *('convert_checkpoint.py', a, p.folder / 'converted.pth', '--family', 'quadtree')
        ),
        'tools/convert_checkpoint.py:main',
        'tools/convert_checkpoint.py:src',
    ),
}


def sources():
    for folder in SOURCES:
        yield from sorted((ROOT / folder).rglob('*.py'))


def entries() -> set[str]:
    """Functions that read checkpoints, and options of command lines that name one."""
    found = set()
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else None
            called = node.func.id if isinstance(node.func, ast.Name) else called
            if called in READERS:
                around = [f for f in functions if f.lineno <= node.lineno <= f.end_lineno]
                found.add(f'{name}:{around[-1].name if around else "module"}')
            if called == 'add_argument' and isinstance(node.args[0], ast.Constant):
                option = node.args[0].value
                if OPTIONS.search(option):
                    found.add(f'{name}:{option}')
    return found


def test_every_entry_has_a_case():
    covered = {place for _, *places in CASES.values() for place in places}
    assert entries() - covered == set(), 'write a case in CASES for these'
    assert covered - entries() == set(), 'these are gone'


def test_nothing_reads_by_itself():
    found = {
        (path.relative_to(ROOT).as_posix(), match[0])
        for path in sources()
        for match in FORBIDDEN.finditer(path.read_text())
    }
    assert found == {
        ('mmeffvit/checkpoints/read.py', 'torch.load('),
        ('demo/run.py', 'pickle.loads('),  # predictions that its own test run wrote just before
    }
    assert 'weights_only=True' in (ROOT / 'mmeffvit/checkpoints/read.py').read_text()


@pytest.fixture
def place(tmp_path, shapes, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.chdir(tmp_path)
    MMLogger._instance_dict.clear()  # loggers of other tests write to streams that are closed
    return Place(tmp_path, shapes, monkeypatch)


@pytest.mark.parametrize('kind', ['path', 'url', 'published'])
@pytest.mark.parametrize('name', CASES)
def test_no_code_is_run(place, name, kind, capsys, monkeypatch):
    for framework in ('mmdet', 'mmseg', 'mmpretrain'):
        pytest.importorskip(framework)
    file, mark = place.folder / 'evil.pth', place.folder / 'mark'
    malice.write_zip(file, mark, {'layer.weight': torch.ones(2, 2)})
    if kind == 'published':
        if name in ('train --resume', 'train resume=True', 'Runner auto resume'):
            pytest.skip('refused before the file is opened: tests/cli/test_training.py')
        monkeypatch.setenv('MMEFFVIT_WEIGHTS', str(place.folder))
        monkeypatch.delenv('MMEFFVIT_FROM_SCRATCH', raising=False)
        file.rename(place.folder / 'quadtree_b0.pth')
    with serve(place.folder) as url:
        try:
            addresses = dict(
                path=str(file), url=f'{url}/evil.pth', published='mmeffvit://quadtree_b0'
            )
            CASES[name][0](place, addresses[kind])
        except CheckpointError as error:
            said = str(error)
        else:
            said = ''
    captured = capsys.readouterr()
    assert not mark.exists(), 'it was run'
    said += captured.err + captured.out
    assert 'posix.system' in said
    assert 'weights_only' not in said and 'Traceback' not in said


def test_the_same_file_runs_code_where_it_is_trusted(tmp_path):
    malice.write_zip(tmp_path / 'evil.pth', tmp_path / 'mark')
    torch.load(tmp_path / 'evil.pth', weights_only=False)
    assert (tmp_path / 'mark').exists()


def test_the_sources_are_where_they_are_looked_for():
    assert len(list(sources())) > 100
    assert Path(ROOT / 'mmeffvit/checkpoints/read.py').is_file()
