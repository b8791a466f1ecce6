_base_ = 'shapes_denoising.py'

data_source = 'python demo/make_shapes.py data/shapes --tasks video'
dataset_type = 'ClipFolder'
data_root = 'data/shapes/video/'

train_pipeline = [
    dict(type='LoadRestorationPair'),
    dict(type='RandomPatch', size=64),
    dict(type='RandomDihedral'),
    dict(type='RandomTimeReversal'),
    dict(type='AddGaussianNoise', sigma={{_base_.sigma}}),
    dict(type='PackRestorationInputs'),
]
train_dataloader = dict(
    dataset=dict(type=dataset_type, data_root=data_root, num_frames=7, pipeline=train_pipeline)
)
val_dataloader = dict(
    num_workers=1, dataset=dict(type=dataset_type, data_root=data_root, indices=None)
)
test_dataloader = val_dataloader
