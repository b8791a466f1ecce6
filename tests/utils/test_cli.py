import pytest

from mmeffvit.utils.cli import UserError, run_cli


def _fail(error):
    def main():
        raise error

    return main


def test_user_error_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as exit_info:
        run_cli(_fail(UserError('no data/coco;\n    see README')))
    assert exit_info.value.code == 2
    captured = capsys.readouterr()
    assert captured.err == 'error: no data/coco; see README\n'
    assert captured.out == ''


@pytest.mark.parametrize(('returned', 'code'), [(None, 0), (0, 0), (3, 3)])
def test_exit_code_of_main(returned, code):
    with pytest.raises(SystemExit) as exit_info:
        run_cli(lambda: returned)
    assert exit_info.value.code == code


def test_bugs_keep_their_traceback():
    with pytest.raises(KeyError):
        run_cli(_fail(KeyError('x')))
