import pytest

from mmeffvit.cli.errors import UserError, run_cli, user_input


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


def test_a_bug_of_our_own_is_not_taken_for_a_user_error():
    with pytest.raises(ValueError, match='shapes differ'):
        run_cli(_fail(ValueError('shapes differ')))


@pytest.mark.parametrize('error', [ValueError('no such model'), FileNotFoundError('no such file')])
def test_what_fails_on_user_input_is_a_user_error(capsys, error):
    def main():
        with user_input():
            raise error

    with pytest.raises(SystemExit) as exit_info:
        run_cli(main)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err == f'error: {error}\n'


def test_other_exceptions_on_user_input_pass():
    with pytest.raises(KeyError), user_input():
        raise KeyError('x')
