"""What forked processes need, imported once by the server that forks them."""

import contextlib

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot
import rich.progress
import torch
import torchvision

import mmeffvit.backbones
import mmeffvit.cli.launch
import mmeffvit.cli.training
import mmeffvit.denoising
import mmeffvit.engine
import mmeffvit.inference
import mmeffvit.utils.videos
from helpers import forked, tiny_runs

for name in ('mmdet', 'mmseg', 'mmpretrain'):
    with contextlib.suppress(ImportError):
        __import__(f'{name}.apis')

__all__ = ['forked', 'matplotlib', 'mmeffvit', 'rich', 'tiny_runs', 'torch', 'torchvision']
