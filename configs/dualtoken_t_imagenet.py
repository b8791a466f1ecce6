_base_ = [
    '_base_/models/classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/schedules/imagenet_300e_lightvit.py',
    'mmpretrain::_base_/default_runtime.py',
]

# The authors' recipe but for RandAugment: theirs takes the non-increasing set of operations, each
# with probability 0.5, and four more (Distort, Zoom, Blur, Skew); mmpretrain's the increasing set.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.DualTokenViT',
        arch='tiny',
        out_type='raw',
        drop_path_rate=0.1,
    ),
    neck=dict(_delete_=True, type='mmeffvit.TokenPooling', in_channels=192),
    head=dict(in_channels=1280),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.2), dict(type='CutMix', alpha=1.0)]),
)
train_dataloader = dict(batch_size=128)
