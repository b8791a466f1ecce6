_base_ = '../denoising_runtime.py'

# 8e-3 for 64 pairs: with 8, 1e-3, and 1875 * 64 / 8 steps of warm-up.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.1),
    clip_grad=dict(max_norm=0.5),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=15_000, by_epoch=False),
    dict(type='MultiStepLR', milestones=[8, 12, 16, 20, 24], gamma=0.5),
]
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(max_keep_ckpts=5, save_best='pose/auc@10')
)
sync_bn = 'torch'
