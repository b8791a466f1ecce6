_base_ = '../denoising_runtime.py'

# uformer_skipat_t_shapes: 5.4 minutes of CPU time, from 18.6 to 29.8 dB (28.2 after 100 steps).
max_iters = 300
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=100)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.02),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=20, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=20, end=max_iters, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters, by_epoch=False))
log_processor = dict(by_epoch=False, window_size=20)
