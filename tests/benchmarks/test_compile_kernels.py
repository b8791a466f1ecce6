import pytest

from helpers.tool_runs import ROOT, start_tool

pytest.importorskip('triton')

TOOL = ROOT / 'benchmarks' / 'compile_kernels.py'


@pytest.mark.slow
@pytest.mark.parametrize('op', ['quadtree', 'slide'])
def test_kernels_spill_nothing_and_use_matrix_units(op, tmp_path):
    run = start_tool(TOOL, op, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f'{op} ' in run.stdout


def test_an_op_without_kernels(tmp_path):
    run = start_tool(TOOL, 'resize', cwd=tmp_path)
    assert run.returncode == 2
    assert 'error: No op resize has kernels' in run.stderr
