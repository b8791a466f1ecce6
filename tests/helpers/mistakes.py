"""Mistakes on command lines, drawn up from the options that every tool declares."""

from __future__ import annotations

import argparse
import runpy
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch

from helpers import malice, workshop
from helpers.tool_runs import ROOT
from mmeffvit.cli.options import Parser

#: Configs that cannot be used, by name; the message has to name the file or what is wrong in it.
CONFIGS = {
    'syntax.py': 'model = dict(\n',
    'name.py': 'model = dict(type=nothing)\n',
    'zero.py': 'model = 1 / 0\n',
    'raises.py': "raise RuntimeError('no')\n",
    'imports.py': 'import nothing_of_this_name\n',
    'custom.py': "custom_imports = dict(imports=['nothing_of_this_name'])\n",
    'base.py': "_base_ = 'nowhere.py'\n",
    'package.py': "_base_ = 'mmpretrain::_base_/nowhere.py'\n",
    'framework.py': "_base_ = 'nothing::_base_/nowhere.py'\n",
    'twice.py': "_base_ = ['classifier.py', 'denoiser.py']\n",
    'self.py': "_base_ = 'self.py'\n",
    'lazy.py': 'from mmengine.config import read_base\nwith read_base():\n    from .no import *\n',
    'empty.py': '',
    'binary.py': b'\x89PNG\r\n\x1a\n\x00',
    'broken.json': '{"model": ',
    'broken.yaml': 'model: [1',
    'scope.py': "_base_ = 'vit.py'\ndefault_scope = 'nothing'\n",
    'list.py': "default_scope = 'mmpretrain'\nmodel = [1]\n",
    'word.py': "default_scope = 'mmpretrain'\nmodel = 'vit'\n",
    'untyped.py': "default_scope = 'mmpretrain'\nmodel = dict(backbone=dict(depth=1))\n",
    'type.py': "_base_ = 'vit.py'\nmodel = dict(backbone=dict(type='mmeffvit.VisionTransfomer'))\n",
    'argument.py': "_base_ = 'vit.py'\nmodel = dict(backbone=dict(image_size=64))\n",
    'arch.py': "_base_ = 'vit.py'\n"
    'model = dict(backbone=dict(arch=dict(_delete_=True, depth=1)))\n',
    'heads.py': "_base_ = 'vit.py'\nmodel = dict(backbone=dict(arch=dict(num_heads=5)))\n",
    'value.py': "_base_ = 'vit.py'\nmodel = dict(backbone=dict(patch_size=0))\n",
    'negative.py': "_base_ = 'vit.py'\nmodel = dict(backbone=dict(arch=dict(embed_dims=-32)))\n",
    'text.py': "_base_ = 'vit.py'\nmodel = dict(backbone=dict(arch=dict(embed_dims='wide')))\n",
    'detector_of_nothing.py': "default_scope = 'mmdet'\nmodel = dict(type='RetinaNet')\n",
}
#: What the message names instead of the file, where the file is sound Python.
WORDS = {
    **dict.fromkeys(('imports.py', 'empty.py', 'scope.py'), ''),
    **dict.fromkeys(('list.py', 'word.py', 'untyped.py', 'detector_of_nothing.py'), ''),
    'mmeffvit://none': 'none',
    'type.py': 'VisionTransfomer',
    'argument.py': 'image_size',
    'arch.py': 'embed_dims',
    'heads.py': 'num_heads=5',
    **dict.fromkeys(('value.py', 'negative.py', 'text.py'), 'VisionTransformer'),
    'model.head.num_classes=x': 'LinearClsHead',
    'train_dataloader.dataset.pipeline=1': 'CustomDataset',
    'train_dataloader.collate_fn.type=nothing': 'a dataloader',
    'optim_wrapper.optimizer.lr=x': 'SGD',
}
#: Of every function that reads an option, values that it refuses.
VALUES = {
    'positive': ('0', '-3', 'x', '1.5'),
    'natural': ('-1', 'x', '1.5'),
    'seed': ('-1', 'x', '4294967296'),
    'fraction': ('-0.1', '1.5', 'x', 'nan'),
    'device': ('gpu', 'cuda:99', 'cpu:x', 'mps', 'meta', 'xpu:0', 'vulkan'),
    'output_file': ('pictures', 'text/x.png', '/proc/nothing/x.png'),
    'output_folder': ('text', 'text/o', '/proc/nothing/o'),
    'output': ('text/x.pkl', 'text', 'pictures/x.csv', '/proc/nothing/x.pkl'),
    'int': ('x', '1.5'),
    'float': ('x',),
    'metric': ('x', '=1', 'x=y'),
    'pattern': ('(', 'nothing'),
    'token': ('x', '1', '1,x'),
    '_size': ('0', 'x', '1x2x3', '-2'),
}
CHECKPOINTS = (
    *('missing.pth', 'pictures', 'text', 'nothing.pth', 'cut.pth', 'evil.pth', 'list.pth'),
    *('other.pth', 'part.pth', 'shapes.pth', 'cut.safetensors', 'missing/w.pth'),
    *('http://127.0.0.1:9/w.pth', 'gopher://x/w.pth', 'torchvision://none'),
    *('published', 'mmeffvit://none', 'mmeffvit://quadtree_b0/none'),
)
SOURCES = ('missing.png', 'nothing', 'text', 'missing/*.png')
OVERRIDES = (
    'novalue',
    'a=[1,(2',
    '=1',
    'model=1',
    'model.backbone=1',
    'model.type=ImageClasifier',
    'model.backbone.type=mmeffvit.Nothing',
    'model.backbone.nothing=1',
    'model.backbone.out_indices=7',
    'model.backbone.out_indices=x',
    'model.backbone.arch=nothing',
    'model.head.num_classes=0',
    'model.head.num_classes=x',
    'model.head.type=Nothing',
    'model.head.loss.type=Nothing',
    'model.neck.type=Nothing',
    'model.data_preprocessor.type=Nothing',
    'default_scope=nothing',
    'log_level=nothing',
    'visualizer.type=Nothing',
    'custom_hooks=1',
    'custom_hooks=[1]',
    'default_hooks.checkpoint.type=Nothing',
    'default_hooks.logger.nothing=1',
    'env_cfg.mp_cfg.mp_start_method=nothing',
)
OF_TRAINING = (
    'train_dataloader=1',
    'train_dataloader.batch_size=0',
    'train_dataloader.batch_size=x',
    'train_dataloader.num_workers=-1',
    'train_dataloader.dataset=1',
    'train_dataloader.dataset.type=Nothing',
    'train_dataloader.dataset.pipeline=1',
    'train_dataloader.dataset.pipeline.0.type=Nothing',
    'train_dataloader.dataset.pipeline.1.scale=x',
    'train_dataloader.sampler.type=Nothing',
    'train_dataloader.collate_fn.type=nothing',
    'train_cfg=1',
    'train_cfg.max_epochs=x',
    'train_cfg.max_epochs=-1',
    'train_cfg.nothing=1',
    'train_cfg.type=Nothing',
    'optim_wrapper=1',
    'optim_wrapper.type=Nothing',
    'optim_wrapper.optimizer=1',
    'optim_wrapper.optimizer.type=Nothing',
    'optim_wrapper.optimizer.lr=x',
    'optim_wrapper.optimizer.lr=-1',
    'optim_wrapper.optimizer.nothing=1',
    'optim_wrapper.accumulative_counts=0',
    'optim_wrapper.constructor=Nothing',
    'param_scheduler=1',
    'param_scheduler=[1]',
    'val_evaluator.type=Nothing',
    'val_cfg=1',
    'default_hooks.checkpoint.interval=x',
    'load_from=missing.pth',
    'model.backbone.init_cfg.type=Nothing',
)
#: Options that are read as text, with values that cannot be used.
TEXTS = {
    'config': ('missing.py', 'pictures', 'text', *CONFIGS),
    'model': ('missing.py', 'quadtree_b9', 'text', *(name for name in CONFIGS if '.py' in name)),
    **dict.fromkeys(('checkpoint', 'src', '--checkpoint', '--resume'), CHECKPOINTS),
    **dict.fromkeys(('inputs', 'source', 'image', 'images'), SOURCES),
    **dict.fromkeys(('first', 'second', 'left', 'right'), ('missing.png', 'nothing')),
    '--pose': ('missing.txt', 'text', 'pictures'),
    '--data-root': ('missing', 'text', 'nothing'),
    '--ids-from': ('missing.json', 'text', 'pictures'),
    '--metric': ('nothing',),
    '--config': ('missing.py', 'pictures', 'text', *CONFIGS),
}


def furnish(folder: Path) -> None:
    """Add what mistakes need to the folder of :mod:`.workshop`."""
    for name, text in CONFIGS.items():
        path = folder / name
        path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text)
    (folder / 'nothing').mkdir()
    state = torch.load(folder / 'vit.pth', weights_only=True)
    whole = (folder / 'vit.pth').read_bytes()
    (folder / 'nothing.pth').write_bytes(b'')
    (folder / 'cut.pth').write_bytes(whole[: len(whole) // 2])
    (folder / 'cut.safetensors').write_bytes(malice.safetensors_header(b'{"a": '))
    malice.write_zip(folder / 'evil.pth', folder / 'mark')
    torch.save([1, 2], folder / 'list.pth')
    torch.save(dict(weight=torch.zeros(1)), folder / 'other.pth')
    torch.save(dict(list(state.items())[3:]), folder / 'part.pth')
    torch.save({key: value.new_zeros(2, 3) for key, value in state.items()}, folder / 'shapes.pth')


def options(tool: str) -> list[argparse.Action]:
    """What a tool declares."""
    found: list[argparse.Action] = []

    def keep(parser: Parser) -> None:
        found.extend(parser._actions)
        raise InterruptedError

    script = runpy.run_path(str(ROOT / 'tools' / tool))
    with mock.patch.object(Parser, 'parse_args', keep):
        try:
            script['parse_args']()
        except InterruptedError:
            return found
    raise AssertionError(f'{tool} parses nothing')


def commands(tool: str) -> Iterator[tuple[list[str], str]]:
    """Command lines of a tool with one mistake each, and a word that the message has to have."""
    right = workshop.COMMANDS[tool]
    yield [], 'required'
    yield [*right, '--no-such-option'], '--no-such-option'
    for action in options(tool):
        name = action.option_strings[-1] if action.option_strings else action.dest
        if isinstance(action, argparse._HelpAction):
            continue
        if action.option_strings:
            swapped = name[:3] + name[4:] + name[3]
            yield [*right, swapped], swapped
            if action.nargs == 0:
                yield [*right, f'{name}=3'], name
                continue
            if action.nargs not in ('?', '*'):
                yield [*right, name], name
        elif action.required and action.nargs is None:
            yield [token for token in right if token != _positional(right, action)], ''
        for value in _values(action, name):
            word = WORDS.get(value, '--ids-from' if name == '--ids-from' else value)
            if action.option_strings:
                filler = (
                    [value, *['8'] * (action.nargs - 1)] if _is_count(action.nargs) else [value]
                )
                yield [*right, name, *filler], word
            else:
                yield [value if t == _positional(right, action) else t for t in right], word


def _values(action: argparse.Action, name: str) -> tuple[str, ...]:
    if name == '--cfg-options':
        train = any('resume' in entry for entry in action.container._option_string_actions)
        return OVERRIDES + OF_TRAINING * train
    if action.choices is not None:
        return ('nothing',)
    kind = getattr(action.type, '__name__', None)
    return TEXTS[name] if kind in (None, 'Path') else VALUES[kind]


def _is_count(nargs: object) -> bool:
    return isinstance(nargs, int) and nargs > 1


#: Positional arguments by name, as the working commands give them.
_PLACES = {
    'config': ('.py',),
    'model': ('.py',),
    'checkpoint': ('.pth',),
    'src': ('public.pth',),
    'dst': ('.safetensors',),
    'out': ('sheet.png', '.onnx', '.safetensors', 'out'),
    'command': ('list',),
    'image': ('2.png',),
    **dict.fromkeys(('first', 'left'), ('1.png',)),
    **dict.fromkeys(('second', 'right'), ('2.png',)),
    'images': ('pictures',),
    'inputs': ('pictures',),
    'source': ('pictures', 'sidd'),
}


def _positional(right: list[str], action: argparse.Action) -> str:
    return next(token for token in right if token.endswith(_PLACES[action.dest]))
