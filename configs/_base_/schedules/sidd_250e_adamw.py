_base_ = '../denoising_runtime.py'

# Uformer's recipe: 32 crops per step of all processes together, 3 epochs of warm-up, cosine; mixed
# precision by --amp.
max_epochs, warm_up = 250, 3
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.02),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / warm_up, begin=0, end=warm_up, by_epoch=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=warm_up, end=max_epochs, by_epoch=True),
]
randomness = dict(seed=1234)
auto_scale_lr = dict(enable=False, base_batch_size=32)
