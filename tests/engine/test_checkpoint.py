import copy
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import find_latest_checkpoint

from helpers import forked
from helpers.tiny_runs import Net, StopAfter, StopError, runner
from mmeffvit.checkpoints import CheckpointError, read_checkpoint
from mmeffvit.engine import CheckpointHook
from mmeffvit.engine.checkpoint import FiniteLossHook, NonFiniteError


def names(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth'))


def test_every_framework_finds_our_hook():
    assert HOOKS.get('CheckpointHook') is CheckpointHook
    assert HOOKS.get('mmdet.CheckpointHook') is CheckpointHook


@pytest.mark.parametrize('best', [False, True])
def test_there_is_a_whole_file_at_every_instant(tmp_path, monkeypatch, best):
    """Nothing is deleted before what takes its place is there."""
    import mmengine.fileio

    seen = []
    remove = mmengine.fileio.LocalBackend.remove

    def watched(self, path):
        seen.append((Path(path).name, names(tmp_path)))
        remove(self, path)

    monkeypatch.setattr(mmengine.fileio.LocalBackend, 'remove', watched)
    options = dict(max_keep_ckpts=1)
    run = runner(tmp_path, checkpoint=options)
    hook = next(hook for hook in run.hooks if isinstance(hook, CheckpointHook))
    if best:
        hook.save_best, hook.is_better_than = ['acc'], {}
        hook._init_rule(['greater'], ['acc'])
        hook.best_ckpt_path = None

        class Score(Hook):
            def after_train_epoch(self, runner):
                runner._train_loop._epoch += 1  # as validation sees it
                hook._save_best_checkpoint(runner, dict(acc=runner.epoch / 10))
                runner._train_loop._epoch -= 1

        run.register_hook(Score(), priority='LOWEST')
    run.train()
    removed = [name for name, _ in seen]
    expected = ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']
    assert [name for name in removed if name.startswith('epoch')] == expected
    for name, there in seen:
        assert name in there
        newer = [other for other in there if re.sub(r'\d', '', other) == re.sub(r'\d', '', name)]
        assert len(newer) == 2, (name, there)
    left = ['best_acc_epoch_4.pth', 'epoch_4.pth'] if best else ['epoch_4.pth']
    assert names(tmp_path) == left
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_4.pth')
    assert read_checkpoint(tmp_path / 'epoch_4.pth')['meta']['epoch'] == 4


def test_a_failed_write_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    saved = torch.save

    def full(content, path, *args, **kwargs):
        if '.epoch_2.' in str(path):
            Path(path).write_bytes(b'half')
            raise OSError(28, 'No space left on device')
        return saved(content, path, *args, **kwargs)

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(CheckpointError, match=r'epoch_2\.pth cannot be written.*No space left'):
        runner(tmp_path, checkpoint=dict(max_keep_ckpts=1)).train()
    assert names(tmp_path) == ['epoch_1.pth']
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_1.pth')


def test_half_written_files_are_cleared_away(tmp_path):
    (tmp_path / '.epoch_1.0123abcd.partial.pth').write_bytes(b'half')
    runner(tmp_path).train()
    assert not list(tmp_path.glob('.*partial*'))


def state_of(path):
    content = read_checkpoint(path)
    return content['state_dict'], content['optimizer']['state']


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('stop', [5, 8, 10])
def test_accumulated_gradients_survive(tmp_path, by_epoch, stop):
    options = dict(by_epoch=by_epoch, wrapper=dict(accumulative_counts=3))
    runner(tmp_path / 'whole', **copy.deepcopy(options)).train()
    with pytest.raises(StopError):
        runner(tmp_path / 'killed', hooks=[StopAfter(stop)], **copy.deepcopy(options)).train()
    # The model starts from elsewhere, so that nothing but the checkpoint makes it equal.
    torch.manual_seed(1)
    resumed = runner(tmp_path / 'killed', model=Net(), resume=True, **options)
    resumed.train()
    last = 'epoch_4.pth' if by_epoch else 'iter_16.pth'
    for left, right in zip(
        state_of(tmp_path / 'whole' / last), state_of(tmp_path / 'killed' / last)
    ):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(('by_epoch', 'stop'), [(False, 5), (False, 7), (True, 3)])
def test_accumulated_gradients_of_two_processes_survive(tmp_path, by_epoch, stop):
    """Equal but for rounding: the mean of the gradients is saved."""

    def train(folder, stop=None, seed=0):
        processes = [
            forked.start(forked.train_in_two, rank, tmp_path / folder, stop, seed, by_epoch)
            for rank in (0, 1)
        ]
        assert [forked.ended(process) for process in processes] == [0 if stop is None else 9] * 2

    train('whole')
    train('killed', stop)
    (saved,) = (tmp_path / 'killed').glob(f'*_{stop if not by_epoch else 1}.pth')
    assert read_checkpoint(saved)['gradients']
    train('killed', seed=1)
    last = 'epoch_4.pth' if by_epoch else 'iter_16.pth'
    torch.testing.assert_close(
        state_of(tmp_path / 'killed' / last), state_of(tmp_path / 'whole' / last)
    )


def test_no_gradients_are_saved_on_whole_steps(tmp_path):
    runner(tmp_path, wrapper=dict(accumulative_counts=2)).train()
    assert 'gradients' not in read_checkpoint(tmp_path / 'epoch_1.pth')


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    run = runner(
        tmp_path,
        model=Net(poison=6),
        hooks=[FiniteLossHook()],
        by_epoch=False,
        checkpoint=dict(max_keep_ckpts=1),
    )
    with pytest.raises(NonFiniteError, match=r'not finite since iteration 7: .*--resume'):
        run.train()
    assert run.iter < 11
    assert names(tmp_path) == ['iter_6.pth']
    found = read_checkpoint(find_latest_checkpoint(str(tmp_path)))
    assert all(tensor.isfinite().all() for tensor in found['state_dict'].values())


def test_a_single_bad_loss_does_not(tmp_path):
    class Once(Net):
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            if self.calls == 4:
                out['loss'] = out['loss'].detach() * float('nan') + 0 * out['loss']
            return out

    hook = FiniteLossHook()
    hook.before_train(None)
    for iteration, value in enumerate([1.0, float('nan'), float('inf'), 1.0, float('nan'), 1.0]):
        fake = type('Runner', (), dict(iter=iteration, work_dir='x'))
        hook.after_train_iter(fake, 0, outputs=dict(loss=torch.tensor(value)))
    hook.after_train(fake)


def test_without_the_hook_bad_weights_still_do_not_replace_good_ones(tmp_path):
    runner(tmp_path, model=Net(poison=6), checkpoint=dict(max_keep_ckpts=1)).train()
    assert names(tmp_path) == ['epoch_1.pth']


def test_the_newest_readable_checkpoint_is_found(tmp_path, capsys):
    assert find_latest_checkpoint(str(tmp_path)) is None
    runner(tmp_path).train()
    newest = tmp_path / 'epoch_4.pth'
    assert find_latest_checkpoint(str(tmp_path)) == str(newest)
    newest.write_bytes(newest.read_bytes()[:-500])
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_3.pth')
    assert 'passed over' in capsys.readouterr().out
    for pointer in ('', 'elsewhere/epoch_9.pth', str(newest)):
        (tmp_path / 'last_checkpoint').write_text(pointer)
        assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_3.pth')
    moved = tmp_path.with_name(tmp_path.name + '-moved')
    tmp_path.rename(moved)
    assert find_latest_checkpoint(str(moved)) == str(moved / 'epoch_3.pth')


def test_a_checkpoint_newer_than_the_pointer_wins(tmp_path):
    """A kill between the two leaves it so."""
    runner(tmp_path).train()
    pointer = tmp_path / 'last_checkpoint'
    pointer.write_text(str(tmp_path / 'epoch_3.pth'))
    stamp = (tmp_path / 'epoch_3.pth').stat().st_mtime
    os.utime(pointer, (stamp, stamp))
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_4.pth')


def test_the_pointer_wins_over_older_files(tmp_path):
    """Of an earlier run in the same folder, for one."""
    runner(tmp_path).train()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_2.pth')


RUN = """
import sys
sys.path[:0] = {paths!r}
import torch
from helpers.tiny_runs import runner
import mmeffvit
run = runner({folder!r}, checkpoint=dict(max_keep_ckpts=1), resume=True)
print('ready', flush=True)
run.train()
"""


@pytest.mark.slow
def test_kills_at_random_moments_leave_something_to_resume(tmp_path):
    import random

    here = Path(__file__).parents[1]
    code = RUN.format(paths=[str(here.parent), str(here)], folder=str(tmp_path))
    rng = random.Random(0)
    started = False
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout.readline() == b'ready\n', process.stderr.read()
            try:
                process.wait(rng.uniform(0.0, 0.4))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        found = find_latest_checkpoint(str(tmp_path))
        assert found is not None or not started
        started = started or found is not None
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)
    assert names(tmp_path)[-1:] == ['epoch_4.pth']
