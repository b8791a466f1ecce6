# `make demo-elastic`: from scratch, from more images than the default, then one checkpoint
# evaluated at several numbers of compressed tokens. Seen (seed 0): top-1 51.6, 54.2, 55.4, 57.0 %
# with 2x2, 3x3, 4x4, 6x6 of them, where guessing is 25 %.
_base_ = [
    '_base_/models/lookupvit_classifier.py',
    '_base_/datasets/shapes_classification.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=96, depth=4, num_heads=3),
        compressed_size=(4, 4),
        img_size=64,
        patch_size=8,
        drop_path_rate=0.0,
        # So narrow a model hardly leaves its start with ViT's standard deviation of 0.02.
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
    head=dict(
        num_classes=4,
        in_channels=96,
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
        cal_acc=True,
    ),
    train_cfg=None,
)
custom_hooks = [
    dict(type='mmeffvit.CompressedSizeHook', sizes=[(2, 2), (3, 3), (4, 4), (6, 6)]),
]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.8, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 10
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, convert_to_iter_based=True, T_max=max_epochs),
]
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(type='CheckpointHook', interval=2, max_keep_ckpts=1)
)
