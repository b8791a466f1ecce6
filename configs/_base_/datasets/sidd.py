# SIDD, sRGB: patches of SIDD-Medium, cut once by tools/dataset_converters/crop_sidd.py, and the
# published validation blocks, on which results of the field are reported.
dataset_type = 'RestorationFolder'
data_root = 'data/sidd/'

train_pipeline = [
    dict(type='LoadRestorationPair'),
    dict(type='RandomPatch', size=128),
    dict(type='RandomDihedral'),
    dict(type='PackRestorationInputs'),
]
test_pipeline = [dict(type='LoadRestorationPair'), dict(type='PackRestorationInputs')]
# 32 patches in all: 4 in each of 8 processes; --auto-scale-lr for any other number.
train_dataloader = dict(
    batch_size=4,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(noisy='train/input', clean='train/groundtruth'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='SIDDBlocks',
        data_root=data_root,
        data_prefix=dict(noisy='ValidationNoisyBlocksSrgb.mat', clean='ValidationGtBlocksSrgb.mat'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# The published protocol: predictions clamped but not rounded, SSIM over the colour volume.
val_evaluator = dict(type='RestorationMetric', measures=['psnr'])
test_evaluator = dict(type='RestorationMetric', measures=['psnr', 'ssim'], ssim='volume')
