data_source = 'python demo/make_shapes.py data/shapes --tasks video'
# The clean clips, with noise of sigma 30: 18.6 dB.
dataset_type = 'ClipFolder'
data_root = 'data/shapes/video/'
sigma = 30

train_pipeline = [
    dict(type='LoadRestorationPair'),
    dict(type='RandomPatch', size=64),
    dict(type='RandomDihedral'),
    dict(type='RandomTimeReversal'),
    dict(type='AddGaussianNoise', sigma=sigma),
    dict(type='PackRestorationInputs'),
]
test_pipeline = [
    dict(type='LoadRestorationPair'),
    dict(type='AddGaussianNoise', sigma=sigma, seed=0),
    dict(type='PackRestorationInputs'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(clean='train/clean'),
        num_frames=7,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(clean='val/clean'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='RestorationMetric', measures=['psnr', 'ssim', 'noisy_psnr'])
test_evaluator = val_evaluator

auto_scale_lr = dict(enable=False, base_batch_size=2)
