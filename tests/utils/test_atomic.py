import json
import os
import signal
import subprocess
import sys

import pytest

from mmeffvit.utils.atomic import atomic, remove_partials, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('sync', [False, True])
def test_the_file_appears_when_it_is_whole(tmp_path, sync):
    path = tmp_path / 'new/picture.png'
    with atomic(path, sync) as partial:
        partial.write_bytes(b'half')
        assert not path.exists()
        assert partial.parent == path.parent
        assert partial.suffix == '.png' and partial.name.startswith('.')
    assert names(path.parent) == ['picture.png']
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt, SystemExit])
def test_what_was_there_stays_when_writing_fails(tmp_path, error):
    path = tmp_path / 'x.json'
    write_json(path, [1])
    with pytest.raises(error), atomic(path) as partial:
        partial.write_text('half')
        raise error
    assert json.loads(path.read_text()) == [1]
    assert names(tmp_path) == ['x.json']


def test_links_are_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr('secrets.token_hex', lambda n: 'known')
    victim = tmp_path / 'victim'
    victim.write_text('untouched')
    (tmp_path / '.x.known.partial.txt').symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / 'x.txt', 'new')
    assert victim.read_text() == 'untouched'


def test_a_link_at_the_final_name_is_replaced_not_followed(tmp_path):
    victim = tmp_path / 'victim'
    victim.write_text('untouched')
    (tmp_path / 'x.txt').symlink_to(victim)
    write_text(tmp_path / 'x.txt', 'new')
    assert victim.read_text() == 'untouched'
    assert (tmp_path / 'x.txt').read_text() == 'new'


@pytest.mark.parametrize('kill', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_leaves_nothing_under_the_final_name(tmp_path, kill):
    code = (
        'import signal, sys, time\n'
        'from mmeffvit.utils.atomic import atomic\n'
        # Processes in the background of a shell inherit that SIGINT is ignored.
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        f'with atomic({str(tmp_path / "x.bin")!r}) as partial:\n'
        '    partial.write_bytes(bytes(1000))\n'
        '    print("half", flush=True)\n'
        '    time.sleep(60)\n'
    )
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b'half\n'
        process.send_signal(kill)
    assert not (tmp_path / 'x.bin').exists()
    assert len(remove_partials(tmp_path)) <= 1
    assert names(tmp_path) == []
