_base_ = '../denoising_runtime.py'

# The paper leaves optimizer and schedule open; these are Uformer's, by iterations (our choice).
max_iters = 300_000
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=10_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.02))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=2000, by_epoch=False),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=2000, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=10_000, by_epoch=False))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=8)
