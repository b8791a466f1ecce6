_base_ = [
    '_base_/models/upernet_pyramid.py',
    '_base_/datasets/shapes_segmentation.py',
    'mmseg::_base_/default_runtime.py',
]

# From scratch on crops of 128 pixels: minutes on two CPU cores. A third of tiny's width in half its
# depth, patches of 8 pixels, levels at strides 4 to 16.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SkipAtViT',
        arch=dict(embed_dims=96, depth=6, num_heads=3),
        skip_layers=(2, 3),
        img_size=128,
        patch_size=8,
        with_cls_token=False,
        final_norm=False,
        out_indices=(1, 2, 3, 5),
    ),
    neck=dict(type='MultiLevelNeck', in_channels=[96] * 4, out_channels=48, scales=[2, 1, 1, 0.5]),
    decode_head=dict(
        in_channels=[48] * 4,
        channels=48,
        dropout_ratio=0.0,
        num_classes=5,
        norm_cfg=norm_cfg,
    ),
    auxiliary_head=None,
)

max_iters = 1200
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=400)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=400, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
