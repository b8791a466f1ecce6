_base_ = '../denoising_runtime.py'

# 6e-3 for 64 pairs: with 8, 7.5e-4, and 4800 * 64 / 8 steps of warm-up.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=7.5e-4, weight_decay=0.1),
    clip_grad=dict(max_norm=0.5),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=38_400, by_epoch=False),
    dict(type='MultiStepLR', milestones=[3, 6, 9, 12, 17, 20, 23, 26, 29], gamma=0.5),
]
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(max_keep_ckpts=5, save_best='pose/auc@10')
)
sync_bn = 'torch'
