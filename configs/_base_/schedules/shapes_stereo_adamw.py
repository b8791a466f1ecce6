_base_ = '../denoising_runtime.py'

max_iters = 580
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=145)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=30, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min=2e-5, begin=30, end=max_iters, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=145, by_epoch=False, save_best='stereo/epe', rule='less'),
)
log_processor = dict(by_epoch=False, window_size=25)
