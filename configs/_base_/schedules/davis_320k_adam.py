_base_ = '../denoising_runtime.py'

# FastDVDnet's, which the paper follows: Adam, 80 epochs of 256,000 clips in batches of 64, the rate
# divided by 10 at epochs 50 and 60.
epoch = 256_000 // 64
max_iters = 80 * epoch
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=2 * epoch)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3))
param_scheduler = [
    dict(type='MultiStepLR', milestones=[50 * epoch, 60 * epoch], gamma=0.1, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=2 * epoch, by_epoch=False))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=64)
