from __future__ import annotations

import json
import re
import shutil
from importlib import import_module

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config
from PIL import ImageCms

from helpers.tool_runs import ROOT, TINY_ARCH, TINY_DETECTOR, run_tool
from mmeffvit.inference import Classifier, build_predictor, infer
from mmeffvit.models import build_model
from mmeffvit.registry import MODELS
from mmeffvit.utils.images import read_image, read_profile, read_upright, write_image
from mmeffvit.utils.videos import Video, VideoWriter
from shapes import KINDS

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
SMALL = "dict(type='Resize', scale=(64, 64), keep_ratio=True)"
CONFIGS = dict(
    detection=TINY_DETECTOR,
    instances=f"""
_base_ = '{ROOT}/configs/maskrcnn_quadtree_b0_coco.py'
rcnn = dict(score_thr=0.0, max_per_img=3)
model = dict(
    backbone=dict(arch=dict(_delete_=True, **{TINY_ARCH})),
    neck=dict(in_channels=[8, 16, 24, 32]),
    test_cfg=dict(rpn=dict(nms_pre=20, max_per_img=10), rcnn=rcnn),
)
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), {SMALL}, dict(type='PackDetInputs', meta_keys=(
    'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
""",
    segmentation=f"""
_base_ = '{ROOT}/configs/deeplabv3_dualtoken_t_shapes.py'
""",
    classification=f"""
_base_ = '{ROOT}/configs/lookupvit_ti_shapes.py'
""",
    denoising=f"""
_base_ = '{ROOT}/configs/uformer_t_shapes.py'
model = dict(backbone=dict(arch=dict(_delete_=True, embed_dims=4, depths=(1,) * 9)))
""",
)
FRAMEWORKS = dict(
    detection='mmdet', instances='mmdet', segmentation='mmseg', classification='mmpretrain'
)


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Path of a config and of random weights for it, by task."""
    folder = tmp_path_factory.mktemp('models')

    def make(task: str):
        pytest.importorskip(FRAMEWORKS.get(task, 'mmengine'))
        config, checkpoint = folder / f'{task}.py', folder / f'{task}.pth'
        if not checkpoint.is_file():
            config.write_text(CONFIGS[task])
            torch.manual_seed(0)
            model = build_model(Config.fromfile(config))
            torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1)), checkpoint)
        return config, checkpoint

    return make


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """A folder of images, one of them in a folder below, one truncated, and a video beside it."""
    folder = tmp_path_factory.mktemp('pictures')
    smooth = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    image = cv2.resize(smooth, (90, 70))
    write_image(folder / 'images' / 'a.png', image, PROFILE)
    write_image(folder / 'images' / 'deep' / 'b.jpg', image[:40])
    broken = folder / 'images' / 'broken.png'
    write_image(broken, image)
    broken.write_bytes(broken.read_bytes()[:400])
    with VideoWriter(folder / 'clip.avi', 5) as writer:
        for _ in range(2):
            writer.write(image)
    return folder


def run_infer(monkeypatch, models, task, pictures, out, *options):
    sources = [pictures / 'images', pictures / '*.avi']
    arguments = [*models(task), *sources, '--out', out, '--device', 'cpu', *options]
    return run_tool(monkeypatch, 'infer.py', *arguments)


@pytest.mark.parametrize('stop', [2, 4])
@pytest.mark.parametrize('task', ['detection', 'classification'])
def test_an_abort_keeps_what_was_predicted(tmp_path, models, pictures, task, stop):
    """Two images that can be read, one that cannot, and two frames of a video."""

    def track(steps, **_):
        for number, _ in enumerate(steps, 1):
            yield
            if number == stop:
                raise KeyboardInterrupt

    config, checkpoint = models(task)
    sources = [pictures / 'images', pictures / 'clip.avi']
    config = Config.fromfile(config)
    with pytest.raises(KeyboardInterrupt):
        infer(config, checkpoint, sources, tmp_path, save_predictions=True, track=track)
    lines = (tmp_path / 'preds/predictions.jsonl').read_text().splitlines()
    names = [json.loads(line)['file_name'] for line in lines]
    expected = ['images/a.png', 'images/broken.png', 'images/deep/b.jpg', 'clip.avi', 'clip.avi']
    assert names == [name for name in expected[:stop] if 'broken' not in name]
    written = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob('*.*'))
    pictures_done = [f'vis/{name}' for name in names if name != 'clip.avi']
    assert written == ['preds/predictions.jsonl', *sorted(pictures_done)]

    infer(config, checkpoint, sources, tmp_path, save_predictions=True)
    assert sorted(p.name for p in (tmp_path / 'preds').iterdir()) == ['predictions.json']
    assert (tmp_path / 'vis/clip.avi').is_file()


@pytest.mark.parametrize('task', [*FRAMEWORKS])
def test_what_can_be_read_is_drawn(monkeypatch, capsys, tmp_path, models, pictures, task):
    code = run_infer(monkeypatch, models, task, pictures, tmp_path, '--save-predictions')
    captured = capsys.readouterr()
    assert code == 1, captured.err
    assert 'broken.png' in captured.err and captured.err.count('skipped:') == 1
    vis = tmp_path / 'vis'
    assert read_image(vis / 'images' / 'a.png').shape == (70, 90, 3)
    assert read_profile(vis / 'images' / 'a.png') == PROFILE
    assert read_image(vis / 'images' / 'deep' / 'b.jpg').shape == (40, 90, 3)
    assert not (vis / 'images' / 'broken.png').exists()
    frames = list(Video(vis / 'clip.avi'))
    assert [frame.shape for frame in frames] == [(70, 90, 3)] * 2

    config, checkpoint = models(task)
    predictor = build_predictor(Config.fromfile(config), checkpoint)
    sample, drawn = predictor(read_upright(pictures / 'images' / 'a.png'))
    np.testing.assert_array_equal(drawn, read_image(vis / 'images' / 'a.png'))
    preds = tmp_path / 'preds'
    if task == 'segmentation':
        labels = cv2.imread(str(preds / 'images' / 'a.png.png'), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(labels, sample.pred_sem_seg.data[0])
        assert (preds / 'clip.avi' / '000001.png').is_file()
        return
    content = json.loads((preds / 'predictions.json').read_text())
    if task == 'classification':
        assert [entry['file_name'] for entry in content][:2] == [
            'images/a.png',
            'images/deep/b.jpg',
        ]
        assert [entry.get('frame_id') for entry in content][2:] == [0, 1]
        assert content[0]['pred_class'] in KINDS
        torch.testing.assert_close(torch.tensor(content[0]['pred_scores']), sample.pred_score)
        return
    found = [entry for entry in content['annotations'] if entry['image_id'] == 1]
    assert content['images'][0]['file_name'] == 'images/a.png'
    assert len(found) == len(sample.pred_instances) > 0
    corners = torch.tensor([entry['bbox'] for entry in found])
    corners[:, 2:] += corners[:, :2]
    torch.testing.assert_close(corners, sample.pred_instances.bboxes)
    if task == 'instances':
        assert all(entry['segmentation']['size'] == [70, 90] for entry in found)
    coco = import_module('pycocotools.coco').COCO(str(preds / 'predictions.json'))
    assert len(coco.loadRes(content['annotations']).anns) == len(content['annotations'])


def test_denoisers_write_what_they_denoise(monkeypatch, capsys, tmp_path, models, pictures):
    assert run_infer(monkeypatch, models, 'denoising', pictures, tmp_path) == 1
    assert 'broken.png' in capsys.readouterr().err
    assert read_image(tmp_path / 'images' / 'deep' / 'b.jpg').shape == (40, 90, 3)
    assert len(list(Video(tmp_path / 'clip.avi'))) == 2


def test_an_image_that_does_not_suit_the_model_is_named(
    monkeypatch, capsys, tmp_path, models, pictures
):
    config, checkpoint = models('segmentation')
    write_image(tmp_path / 'in' / 'tiny.png', np.zeros((8, 8, 3), np.uint8))

    def refuse(model, images):
        raise ValueError(f'Images of {images.shape[2]}x{images.shape[3]} are too small.')

    monkeypatch.setattr('mmseg.models.EncoderDecoder.extract_feat', refuse)
    plain = tmp_path / 'plain.py'
    plain.write_text(
        f"_base_ = '{config}'\n"
        'test_dataloader = dict(dataset=dict(pipeline=['
        "dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]))\n"
    )
    arguments = [plain, checkpoint, tmp_path / 'in', '--out', tmp_path / 'out', '--device', 'cpu']
    assert run_tool(monkeypatch, 'infer.py', *arguments) == 1
    assert 'tiny.png: Images of 8x8 are too small.' in capsys.readouterr().err


def test_predictions_take_the_ids_of_a_coco_file(monkeypatch, tmp_path, models, pictures):
    config, checkpoint = models('detection')
    names = ['circle', 'rectangle', 'triangle', 'star']
    content = dict(
        images=[dict(id=70, file_name='other.png'), dict(id=71, file_name='a.png')],
        categories=[dict(id=10 * i, name=name) for i, name in enumerate(names, 5)],
    )
    truth = tmp_path / 'truth.json'
    truth.write_text(json.dumps(content))
    arguments = [config, checkpoint, pictures / 'images' / 'a.png', '--out', tmp_path / 'out']
    options = ['--save-predictions', '--ids-from', truth, '--device', 'cpu']
    assert run_tool(monkeypatch, 'infer.py', *arguments, *options) == 0
    found = json.loads((tmp_path / 'out/preds/predictions.json').read_text())
    assert [image['id'] for image in found['images']] == [71]
    assert {entry['image_id'] for entry in found['annotations']} == {71}
    assert {entry['category_id'] for entry in found['annotations']} <= {50, 60, 70, 80}
    assert {c['name']: c['id'] for c in found['categories']} == {
        c['name']: c['id'] for c in content['categories']
    }


def test_models_of_coco_use_its_category_ids(models):
    config, checkpoint = models('instances')
    ids = build_predictor(Config.fromfile(config), checkpoint).category_ids
    assert len(ids) == 80 and ids[0] == 1 and ids[11] == 13 and ids[-1] == 90


def test_a_picture_that_fails_in_the_model_is_its_own_failure(
    monkeypatch, tmp_path, models, pictures
):
    config, checkpoint = models('classification')
    predict = Classifier.__call__

    def fails_on_small(self, image):
        if len(image) == 40:
            raise IndexError('index out of range')
        return predict(self, image)

    monkeypatch.setattr(Classifier, '__call__', fails_on_small)
    report = infer(Config.fromfile(config), checkpoint, [pictures / 'images'], tmp_path)
    reasons = {path.name: reason for path, reason in report.failed}
    assert sorted(reasons) == ['b.jpg', 'broken.png']
    assert reasons['b.jpg'].endswith('b.jpg: IndexError: index out of range')
    assert [path.name for path in report.written] == ['a.png']


def test_a_config_in_pure_python(tmp_path, models, pictures):
    """Its types are classes, its bases imports."""
    config, checkpoint = models('classification')
    lazy = Config.fromfile(config)
    for part in (lazy.model.backbone, lazy.test_dataloader.dataset):
        name = part['type']
        registry = (
            MODELS if part is lazy.model.backbone else import_module('mmpretrain.registry').DATASETS
        )
        part['type'] = registry.get(name)
    image = pictures / 'images' / 'a.png'
    assert infer(lazy, checkpoint, [image], tmp_path, save_predictions=True).failed == []


def test_user_errors(monkeypatch, capsys, tmp_path, models, pictures):
    config, checkpoint = models('detection')
    foreign = tmp_path / 'foreign.pth'
    torch.save({'state_dict': {'weight': torch.zeros(1)}}, foreign)
    code = tmp_path / 'code.pth'
    torch.save({'state_dict': print}, code)
    image = pictures / 'images' / 'a.png'
    no_test = tmp_path / 'no_test.py'
    no_test.write_text(f"_base_ = '{config}'\ntest_dataloader = None\n")
    for arguments, message in [
        (['no.py', checkpoint, image], 'no.py does not exist'),
        (
            [config, checkpoint, image, '--save-predictions', '--ids-from', code],
            'code.pth is no COCO file',
        ),
        ([*models('denoising'), image, '--save-predictions'], 'The config is of a denoiser'),
        ([*models('denoising'), image, '--score-thr', '0.5'], 'The config is of a denoiser'),
        ([no_test, checkpoint, image], 'no_test.py has no test_dataloader'),
        ([config, 'no.pth', image], 'no.pth does not exist'),
        ([config, foreign, image], 'The weights are not those of this RetinaNet: 0 of 1 tensors'),
        ([config, code, image], 'code.pth is refused: it would run builtins.print'),
        ([config, checkpoint, tmp_path / '*.jpg'], 'There is nothing at'),
        ([config, checkpoint, foreign], 'is no image or video by its suffix'),
        ([config, checkpoint, image, '--out', image.parent], 'results need another one'),
    ]:
        out = [] if '--out' in arguments else ['--out', tmp_path / 'out']
        assert run_tool(monkeypatch, 'infer.py', *arguments, *out) == 2
        captured = capsys.readouterr().err
        assert message in captured and captured.count('error:') == 1
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('module', 'small'),
    [
        ('mmdet.apis', 'retinanet_quadtree_b0_shapes'),
        ('mmseg.apis', 'deeplabv3_dualtoken_t_shapes'),
        ('mmpretrain', 'lookupvit_ti_shapes'),
    ],
)
def test_the_examples_of_the_readme(monkeypatch, tmp_path, pictures, module, small):
    """They run as they stand, but for a small model of ours in place of a large one."""
    pytest.importorskip(module)
    blocks = (ROOT / 'README.md').read_text().split('```python\n')
    (code,) = (block.partition('```')[0] for block in blocks if f'from {module} import' in block)
    name, weights, image = re.findall(r"'([^']+)'", code)[:3]
    assert (ROOT / 'configs' / f'{name}.py').is_file()
    model = build_model(Config.fromfile(ROOT / 'configs' / f'{small}.py'))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / weights)
    shutil.copy(pictures / 'images' / 'deep' / 'b.jpg', tmp_path / image)
    monkeypatch.chdir(tmp_path)
    exec(code.replace(name, small), {})
    assert [*(tmp_path / 'results').rglob('*.jpg'), *(tmp_path / 'results').rglob('*.png')]
