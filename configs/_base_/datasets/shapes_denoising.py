_base_ = 'shapes_loaders.py'

data_source = 'python demo/make_shapes.py data/shapes --tasks denoising'
# The clean images, with noise of sigma 30: 18.6 dB.
dataset_type = 'RestorationFolder'
data_root = 'data/shapes/denoising/'
sigma = 30

train_pipeline = [
    dict(type='LoadRestorationPair'),
    dict(type='RandomPatch', size=128),
    dict(type='RandomDihedral'),
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
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(clean='train/clean'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(clean='val/clean'),
        indices=50,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='RestorationMetric', measures=['psnr', 'ssim', 'noisy_psnr'])
test_evaluator = val_evaluator

auto_scale_lr = dict(enable=False, base_batch_size=2)
