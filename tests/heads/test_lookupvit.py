import pytest
import torch

pytest.importorskip('mmpretrain')

from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from mmeffvit.heads import LookupViTClsHead
from mmeffvit.registry import MODELS

WIDTH, CLASSES = 8, 3


@pytest.fixture
def feats():
    torch.manual_seed(0)
    return ((torch.randn(4, WIDTH), torch.randn(4, WIDTH)),)


def _head(**options):
    init_default_scope('mmpretrain')
    config = dict(type='mmeffvit.LookupViTClsHead', num_classes=CLASSES, in_channels=WIDTH)
    head = MODELS.build({**config, **options})
    head.init_weights()
    return head


def _samples():
    return [DataSample().set_gt_label(i % CLASSES) for i in range(4)]


def test_loss_is_the_mean_of_two_cross_entropies(feats):
    head = _head()
    losses = head.loss(feats, _samples())
    target = torch.tensor([0, 1, 2, 0])
    parts = [
        torch.nn.functional.cross_entropy(fc(x), target)
        for fc, x in zip((head.fc_compressed, head.fc_lookup), feats[0])
    ]
    torch.testing.assert_close(losses['loss_compressed'], parts[0] / 2)
    torch.testing.assert_close(sum(losses.values()), sum(parts) / 2)


def test_soft_labels(feats):
    samples = [DataSample().set_gt_score(torch.full((CLASSES,), 1 / CLASSES)) for _ in range(4)]
    loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    losses = _head(loss=loss).loss(feats, samples)
    assert all(value.isfinite() for value in losses.values())


def test_infer_from(feats):
    head = _head()
    compressed, lookup = head.logits(feats)
    torch.testing.assert_close(head(feats), (compressed + lookup) / 2)
    for infer_from, expected in (('compressed', compressed), ('lookup', lookup)):
        head.infer_from = infer_from
        assert torch.equal(head(feats), expected)
    samples = head.predict(feats)
    torch.testing.assert_close(
        torch.stack([sample.pred_score for sample in samples]), lookup.softmax(1)
    )


def test_accuracy_of_the_average(feats):
    losses = _head(cal_acc=True).loss(feats, _samples())
    assert 'accuracy_top-1' in losses


def test_bad_options():
    with pytest.raises(ValueError, match='infer_from'):
        LookupViTClsHead(CLASSES, WIDTH, infer_from='mean')
