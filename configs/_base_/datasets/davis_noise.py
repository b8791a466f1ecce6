# DAVIS 2017 at 480p with Gaussian noise, not clipped; tested on the 30 sequences of test-dev.
dataset_type = 'ClipFolder'
data_root = 'data/DAVIS/'
data_prefix = dict(clean='JPEGImages/480p')
sigma = 30

train_pipeline = [
    dict(type='LoadRestorationPair'),
    dict(type='RandomPatch', size=128),
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
_train = [
    dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=data_prefix,
        ann_file=f'ImageSets/2017/{split}.txt',
        num_frames=7,
        pipeline=train_pipeline,
    )
    for split in ('train', 'val')
]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='ConcatDataset', datasets=_train),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=data_prefix,
        ann_file='ImageSets/2017/test-dev.txt',
        max_frames=85,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='RestorationMetric', measures=['psnr'])
test_evaluator = val_evaluator
