"""Damaged files through the readers: what comes back is content or one sentence, nothing else."""

import json
import zipfile
from collections import Counter
from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook

from helpers import malice
from helpers.damage import damaged
from helpers.tiny_runs import runner
from mmeffvit.checkpoints import CheckpointError, read_checkpoint, read_weights, write_weights
from mmeffvit.cli.data_files import check_coco, check_data_files
from mmeffvit.cli.errors import UserError
from mmeffvit.utils.images import read_image, read_upright, write_image
from mmeffvit.utils.videos import CODECS, Video, VideoWriter

pytestmark = pytest.mark.slow

#: Suffix, channels (0 is grey without an axis) and dtype of every kind of picture that is read.
PICTURES = [
    ('.png', 3, np.uint8),
    ('.png', 0, np.uint16),
    ('.png', 4, np.uint8),
    ('.png', 3, np.uint16),
    ('.jpg', 3, np.uint8),
    ('.jpg', 0, np.uint8),
    ('.bmp', 3, np.uint8),
    ('.tif', 3, np.uint8),
    ('.tif', 3, np.uint16),
    ('.webp', 3, np.uint8),
    ('.webp', 4, np.uint8),
    ('.ppm', 3, np.uint8),
]


def count(path, contents, read, refusal) -> tuple[Counter, list]:
    """Read files one after the other; what each came to, and those let through otherwise."""
    outcomes, let_through = Counter(), []
    for number, content in enumerate(contents):
        path.write_bytes(content)
        try:
            read(path)
        except refusal as error:
            outcomes['refused'] += 1
            sentence = str(error)
            if '\n' in sentence.strip() or str(path) not in sentence:
                let_through.append((number, sentence))
        except Exception as error:
            let_through.append((number, repr(error)))
        else:
            outcomes['read'] += 1
    return outcomes, let_through


@pytest.mark.parametrize(
    ('suffix', 'channels', 'dtype'), PICTURES, ids=lambda value: getattr(value, '__name__', None)
)
def test_pictures(figure, tmp_path, suffix, channels, dtype):
    rng = np.random.default_rng(len(suffix) + channels)
    shape = (40, 50, channels) if channels else (40, 50)
    smooth = cv2.resize(rng.integers(0, np.iinfo(dtype).max, (5, 6), dtype), shape[1::-1])
    image = np.repeat(smooth[..., None], channels, 2) if channels else smooth
    path = tmp_path / f'x{suffix}'
    write_image(path, image)
    whole = path.read_bytes()
    contents = [damaged(whole, rng) for _ in range(500)]
    readers = (read_image, lambda path: read_image(path, keep=True), read_upright)
    turn = iter(range(len(contents)))
    outcomes, let_through = count(
        path, contents, lambda path: readers[next(turn) % 3](path), ValueError
    )
    figure('damaged pictures', len(contents), len(contents) - len(let_through))
    assert not let_through
    assert outcomes['refused'] > 100


@pytest.mark.parametrize('suffix', CODECS)
def test_videos(figure, tmp_path, suffix):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 24, 32, 3), np.uint8)
    with VideoWriter(tmp_path / f'x{suffix}', 10) as writer:
        for frame in frames:
            writer.write(frame)
    path = tmp_path / f'x{suffix}'
    contents = [damaged(path.read_bytes(), rng) for _ in range(150)]

    def read(path):
        video = Video(path)
        assert 0 < video.rate < float('inf'), video.rate
        for frame in video:
            assert frame.ndim == 3

    outcomes, let_through = count(path, contents, read, ValueError)
    figure('damaged videos', len(contents), len(contents) - len(let_through))
    assert not let_through
    assert outcomes['refused'] > 20


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Of a run: weights, their average, optimizer, gradients and log histories."""
    folder = tmp_path_factory.mktemp('run')
    runner(folder, hooks=[EMAHook()], wrapper=dict(accumulative_counts=3)).train()
    return folder / 'epoch_4.pth'


@pytest.mark.parametrize('kind', ['zip', 'pickle', 'legacy', 'safetensors'])
def test_checkpoints(figure, tmp_path, checkpoint, kind):
    rng = np.random.default_rng(0)
    path = tmp_path / 'x.pth'
    if kind == 'legacy':
        torch.save(read_checkpoint(checkpoint), path, _use_new_zipfile_serialization=False)
    elif kind == 'safetensors':
        path = path.with_suffix('.safetensors')
        write_weights(read_weights(checkpoint), path, dict(epoch=4))
    else:
        path.write_bytes(checkpoint.read_bytes())
    whole = path.read_bytes()
    if kind == 'pickle':  # damage where it hurts most
        with zipfile.ZipFile(checkpoint) as archive:
            name = next(name for name in archive.namelist() if name.endswith('/data.pkl'))
            pickled = archive.read(name)
        contents = []
        for _ in range(400):
            malice.rezip(checkpoint, path, {'data.pkl': damaged(pickled, rng)})
            contents.append(path.read_bytes())
    else:
        contents = [damaged(whole, rng) for _ in range(400)]
    readers = (read_weights, read_checkpoint)
    turn = iter(range(len(contents)))
    outcomes, let_through = count(
        path, contents, lambda path: readers[next(turn) % 2](path), CheckpointError
    )
    figure('damaged checkpoints', len(contents), len(contents) - len(let_through))
    assert not let_through
    assert outcomes['refused'] > 100


#: What an entry of a COCO file may not have in place of a number, a text or a list.
WRONG = (None, 'text', '', -1, 1.5, [], [1], [None] * 4, {}, {'a': 1}, float('nan'), 10**30, True)


def mutated(content: dict, rng: np.random.Generator) -> dict:
    """A COCO file with one value replaced, left out or doubled."""
    content = deepcopy(content)
    part = str(rng.choice([*content, 'annotations', 'images']))
    if not isinstance(content[part], list) or not content[part] or rng.random() < 0.1:
        content[part] = WRONG[rng.integers(len(WRONG))]
        return content
    entries = content[part]
    index = int(rng.integers(len(entries)))
    kind = rng.integers(4)
    if kind == 0:
        entries.append(deepcopy(entries[index]))
    elif kind == 1:
        entries[index] = WRONG[rng.integers(len(WRONG))]
    else:
        key = str(rng.choice(list(entries[index])))
        if kind == 2:
            del entries[index][key]
        else:
            entries[index][key] = WRONG[rng.integers(len(WRONG))]
    return content


def test_coco_files(figure, tmp_path, shapes):
    """What the check lets through, the framework reads."""
    datasets = pytest.importorskip('mmdet.datasets')
    rng = np.random.default_rng(0)
    source = (shapes / 'scenes/annotations/instances_train.json').read_bytes()
    content = json.loads(source)
    classes = tuple(category['name'] for category in content['categories'])
    mutations = (json.dumps(mutated(content, rng)).encode() for _ in range(200))
    contents = [*(damaged(source, rng) for _ in range(100)), *mutations]

    def with_shape(results):  # as the image would give it
        return {**results, 'ori_shape': (results['height'], results['width'])}

    def read(path):
        check_coco(path, masks=True)
        dataset = datasets.CocoDataset(
            ann_file=str(path),
            data_prefix=dict(img='train/'),
            metainfo=dict(classes=classes),
            pipeline=[
                with_shape,
                dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True),
            ],
        )
        for index in range(len(dataset)):
            dataset[index]

    outcomes, let_through = count(tmp_path / 'x.json', contents, read, UserError)
    figure('damaged COCO files', len(contents), len(contents) - len(let_through))
    for case in let_through:
        print(*case)
    assert not let_through
    assert outcomes['refused'] > 100


def test_label_images(figure, tmp_path):
    """What the check lets through, the framework reads; all label images are of its sample."""
    datasets = pytest.importorskip('mmseg.datasets')
    rng = np.random.default_rng(0)
    for number in range(3):
        write_image(tmp_path / f'images/{number}.png', np.zeros((24, 32, 3), np.uint8))
        write_image(tmp_path / f'labels/{number}.png', rng.integers(0, 2, (24, 32), np.uint8))
    config = dict(
        type='BaseSegDataset',
        data_root=str(tmp_path),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        img_suffix='.png',
        metainfo=dict(classes=('a', 'b')),
        pipeline=[dict(type='mmseg.LoadAnnotations')],
    )
    whole = Config(dict(default_scope='mmseg', train_dataloader=dict(dataset=config)))

    def read(path):
        check_data_files(whole, ['train_dataloader'])
        options = {key: value for key, value in config.items() if key != 'type'}
        datasets.BaseSegDataset(**options)[1]

    path = tmp_path / 'labels/1.png'
    other = cv2.imencode('.png', np.zeros((24, 31), np.uint8))[1].tobytes()
    contents = [damaged(path.read_bytes(), rng) for _ in range(100)] + [other]
    outcomes, let_through = count(path, contents, read, UserError)
    figure('damaged label images', len(contents), len(contents) - len(let_through))
    for case in let_through:
        print(*case)
    assert not let_through
    assert outcomes['refused'] > 20
