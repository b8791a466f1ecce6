_base_ = '../denoising_runtime.py'

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=15, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1),
    paramwise_cfg=dict(custom_keys=dict(regression=dict(lr_mult=2.0))),
)
param_scheduler = []
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(save_best='stereo/epe', rule='less'))
