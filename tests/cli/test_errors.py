import os
import signal

import pytest
from torch.utils.data import DataLoader

from mmeffvit.cli.errors import SECONDS_FOR_THE_FIRST, UserError, run_cli, user_input


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


@pytest.mark.parametrize('error', [KeyError('x'), ValueError('shapes differ'), RuntimeError('?')])
def test_a_bug_keeps_its_traceback_and_asks_for_a_report(capsys, error):
    """Not every ValueError is the user's."""
    with pytest.raises(SystemExit) as exit_info:
        run_cli(_fail(error))
    assert exit_info.value.code == 1
    captured = capsys.readouterr().err
    assert captured.startswith('Traceback')
    assert f'{type(error).__name__}: {error}' in captured
    assert 'please report it' in captured.splitlines()[-1]


@pytest.mark.parametrize(('value', 'shown'), [('1', True), ('0', False), ('', False)])
def test_the_traceback_of_a_user_error_is_shown_on_request(monkeypatch, capsys, value, shown):
    monkeypatch.setenv('MMEFFVIT_DEBUG', value)
    with pytest.raises(SystemExit) as exit_info:
        run_cli(_fail(UserError('no data')))
    assert exit_info.value.code == 2
    captured = capsys.readouterr().err
    assert captured.startswith('Traceback') == shown
    assert captured.splitlines()[-1] == 'error: no data'


@pytest.mark.parametrize('variable', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_the_first_process_speaks_first(monkeypatch, capsys, variable):
    waited = []
    monkeypatch.setattr('time.sleep', waited.append)
    for rank in '01':
        monkeypatch.setenv(variable, rank)
        with pytest.raises(SystemExit):
            run_cli(_fail(UserError('no data')))
    assert waited == [SECONDS_FOR_THE_FIRST]
    assert capsys.readouterr().err == 'error: no data\n' * 2


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


class Deadly:
    """A dataset whose worker is killed, as by a machine that is out of memory."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_worker_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit_info:
        run_cli(lambda: list(DataLoader(Deadly(), num_workers=1)))
    assert exit_info.value.code == 2
    captured = capsys.readouterr().err
    assert captured.startswith('error: DataLoader worker') and captured.count('\n') == 1
    assert '. Out of (shared) memory? Use fewer workers or smaller batches.' in captured


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('swallowed', [False, True])
def test_a_signal_is_one_line(monkeypatch, capsys, number, swallowed):
    monkeypatch.delenv('RANK', raising=False)
    before = [signal.signal(signal.SIGINT, signal.default_int_handler), None]
    before[1] = signal.getsignal(signal.SIGTERM)

    def main():
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            if not swallowed:
                raise
            raise SyntaxError('mmengine makes this of it') from None

    try:
        with pytest.raises(SystemExit) as exit_info:
            run_cli(main)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) == before[1]
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert exit_info.value.code == 128 + number
    assert capsys.readouterr().err == f'error: interrupted by {number.name}.\n'


class Unreadable(Deadly):
    """A dataset with a sample that cannot be read."""

    def __getitem__(self, index):
        raise RuntimeError('a.png is\ncut')


def test_a_sample_that_a_worker_cannot_read_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit_info:
        run_cli(lambda: list(DataLoader(Unreadable(), num_workers=1)))
    assert exit_info.value.code == 2
    captured = capsys.readouterr().err
    assert captured == 'error: a sample of the data cannot be read: RuntimeError: a.png is cut\n'
