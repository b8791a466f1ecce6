from __future__ import annotations

import pytest

from helpers.tool_runs import ROOT, run_tool

TOOL = 'analysis_tools/get_flops.py'


@pytest.mark.parametrize(
    ('model', 'modules'),
    [
        ('configs/maskrcnn_quadtree_b0_coco.py', ('backbone', 'neck', 'rpn_head', 'roi_head')),
        ('configs/retinanet_quadtree_b0_shapes.py', ('backbone', 'neck', 'bbox_head')),
        ('configs/semanticfpn_quadtree_b0_ade20k.py', ('backbone', 'neck', 'decode_head')),
        ('configs/quadtree_b0_imagenet.py', ('backbone', 'head')),
        ('configs/uniformer_shapes.py', ('backbone',)),
        ('uformer_t', ('stem', 'encoder', 'bottleneck', 'decoder')),
    ],
)
def test_every_task(monkeypatch, capsys, model, modules):
    if model.endswith('.py'):
        for framework in ('mmdet', 'mmseg', 'mmpretrain'):
            pytest.importorskip(framework)
        model = ROOT / model
    assert run_tool(monkeypatch, TOOL, model, '--shape', 65, 50, '--depth', 1) == 0
    printed = capsys.readouterr().out
    rows = [line.split('│')[1].strip() for line in printed.splitlines() if '│' in line]
    assert rows[0] == modules[0] and set(modules) <= set(rows)
    assert rows[-2:] == ['products of attention', 'total']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['no.py'], 'no.py does not exist: give the path of a config'),
        (['quadtree_b9'], "no model 'quadtree_b9' (quadtree_b"),
        (['quadtree_b0', '--shape', 5], '--shape [5] must be H W or T H W'),
        (['quadtree_b0', '--shape', 7, 64, 64], 'takes images'),
    ],
)
def test_user_errors(monkeypatch, capsys, arguments, message):
    assert run_tool(monkeypatch, TOOL, *arguments) == 2
    assert message in capsys.readouterr().err
