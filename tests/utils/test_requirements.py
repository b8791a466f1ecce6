import subprocess
import sys

import pytest

from mmeffvit.cli.errors import run_cli
from mmeffvit.utils import requirements
from mmeffvit.utils.requirements import MissingLibraryError, explain_import_error, require


def run_without(missing, code):
    """Run code in a new interpreter in which some packages are not installed."""
    block = f'import sys; sys.modules.update(dict.fromkeys({missing!r}))\n'
    return subprocess.run([sys.executable, '-c', block + code], capture_output=True, text=True)


@pytest.mark.parametrize(
    ('module', 'extra'),
    [('mmdet', 'det'), ('mmseg', 'seg'), ('mmpretrain', 'cls'), ('mmcv', 'all')],
)
def test_require_names_the_extra(monkeypatch, module, extra):
    monkeypatch.setattr(requirements, 'find_spec', lambda name: None)
    with pytest.raises(MissingLibraryError) as info:
        require(module)
    assert str(info.value) == f"{module} is not installed: pip install 'mmeffvit[{extra}]'."


def test_require_is_silent_when_all_is_there():
    require('mmengine', 'torch')


def test_missing_inherited_library_is_explained():
    # The wording of mmengine when ``_base_ = 'mmseg::…'`` meets no such distribution.
    error = ModuleNotFoundError(
        'mmsegmentation is not installed, please install mmsegmentation manually'
    )
    assert "pip install 'mmeffvit[seg]'" in explain_import_error(error)


def test_missing_operators_are_explained():
    error = ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext')
    assert 'compiled operators' in explain_import_error(error)


def test_other_import_errors_are_bugs(capsys):
    error = ModuleNotFoundError("No module named 'colour'", name='colour')
    assert explain_import_error(error) is None

    def main():
        raise error

    with pytest.raises(SystemExit) as info:
        run_cli(main)
    assert info.value.code == 1
    printed = capsys.readouterr().err
    assert "ModuleNotFoundError: No module named 'colour'" in printed and 'report it' in printed


def test_command_line_answers_in_one_line(capsys):
    def main():
        raise ModuleNotFoundError("No module named 'mmdet'", name='mmdet')

    with pytest.raises(SystemExit) as info:
        run_cli(main)
    assert info.value.code == 2
    expected = "error: mmdet is not installed: pip install 'mmeffvit[det]'.\n"
    assert capsys.readouterr().err == expected


def test_backbones_need_only_torch_and_mmengine():
    result = run_without(
        ['mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'torchvision'],
        """
import torch
from mmengine.registry import MODELS

import mmeffvit
import mmeffvit.backbones

model = MODELS.build(dict(type='mmeffvit.QuadTreeTransformer', arch='b0')).eval()
with torch.no_grad():
    print(len(model(torch.zeros(1, 3, 64, 64))))
""",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == '4'


def test_without_mmengine_the_import_says_what_to_install():
    result = run_without(['mmengine'], 'import mmeffvit')
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith(
        "mmengine is not installed: pip install 'mmeffvit[all]'."
    )
