import http.server
from contextlib import contextmanager

import pytest
import torch

from helpers.servers import running
from mmeffvit.checkpoints import CheckpointError, read_weights
from mmeffvit.checkpoints.sources import download


@contextmanager
def server(answers):
    """A server of bytes by path; a pair of bytes and number claims another length."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer = answers.get(self.path.partition('?')[0])
            if answer is None:
                self.send_error(404)
                return
            data, length = answer if isinstance(answer, tuple) else (answer, len(answer))
            self.send_response(200)
            self.send_header('Content-Length', str(length))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    with running(Handler) as address:
        yield address, asked


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    return tmp_path / 'hub/checkpoints'


def checkpoint(tmp_path, value):
    torch.save({'w': torch.full((2,), value)}, tmp_path / 'x.pth')
    return (tmp_path / 'x.pth').read_bytes()


def test_addresses_that_end_alike_are_kept_apart_and_fetched_once(tmp_path, hub):
    one, two = checkpoint(tmp_path, 1.0), checkpoint(tmp_path, 2.0)
    with server({'/exp1/w.pth': one, '/exp2/w.pth': two}) as (url, asked):
        for _ in range(2):
            assert read_weights(f'{url}/exp1/w.pth')['w'][0] == 1
            assert read_weights(f'{url}/exp2/w.pth')['w'][0] == 2
        assert read_weights(f'{url}/exp2/w.pth?download=1')['w'][0] == 2
        assert len(asked) == 3
    assert len(list(hub.glob('w-*.pth'))) == len(list(hub.iterdir())) == 3


def test_a_cut_download_does_not_stay(tmp_path, hub):
    data = checkpoint(tmp_path, 1.0)
    answers = {'/w.pth': (data[:-100], len(data))}
    with server(answers) as (url, _):
        with pytest.raises(CheckpointError, match=f'{len(data) - 100} of {len(data)} bytes'):
            read_weights(f'{url}/w.pth')
        assert list(hub.iterdir()) == []
        answers['/w.pth'] = data
        assert read_weights(f'{url}/w.pth')['w'][0] == 1


def test_a_dead_address_is_one_sentence(hub):
    for address in ('http://127.0.0.1:9/w.pth', 'http://[bad/w.pth'):
        with pytest.raises(CheckpointError, match=r'w\.pth cannot be downloaded') as error:
            read_weights(address)
        assert '\n' not in str(error.value)
    with server({}) as (url, _), pytest.raises(CheckpointError, match='404'):
        download(f'{url}/w.pth')
