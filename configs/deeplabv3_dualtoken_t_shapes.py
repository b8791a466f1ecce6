_base_ = [
    '_base_/models/deeplabv3_three_stage.py',
    '_base_/datasets/shapes_segmentation.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# From scratch on crops of 128 pixels: minutes on two CPU cores.
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    decode_head=dict(channels=64, dilations=(1, 2, 4, 6), num_classes=5, norm_cfg=norm_cfg),
    auxiliary_head=dict(channels=32, num_classes=5, norm_cfg=norm_cfg),
)

max_iters = 600
train_cfg = dict(max_iters=max_iters, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=100,
        end=max_iters,
        eta_min_ratio=0.01,
    ),
]
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=200, max_keep_ckpts=2),
)
