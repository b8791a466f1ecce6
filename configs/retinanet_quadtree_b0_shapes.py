_base_ = [
    '_base_/models/retinanet_small.py',
    '_base_/datasets/shapes_detection.py',
    '_base_/schedules/shapes_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# From scratch on images of at most 128 pixels: minutes on two CPU cores.
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.QuadTreeTransformer', arch='b0'),
    neck=dict(in_channels=[32, 64, 160, 256], norm_cfg=dict(type='GN', num_groups=8)),
    bbox_head=dict(num_classes=4, norm_cfg=dict(type='GN', num_groups=8)),
)

max_epochs = 8
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=max_epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExpMomentumEMA',
        momentum=0.005,
        gamma=100,
        update_buffers=True,
        priority=49,
    )
]
default_hooks = dict(
    logger=dict(interval=25), checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2)
)
