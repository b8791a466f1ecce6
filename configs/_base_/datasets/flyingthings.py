# FlyingThings3D with its masks of occlusion.
dataset_type = 'FlyingThings3D'
data_root = 'data/sceneflow/'

train_pipeline = [
    dict(type='LoadStereo'),
    dict(type='RandomSwapMirror'),
    dict(type='RandomStereoCrop', size=(360, 640), largest=True),
    dict(type='StereoPhotometric'),
    dict(type='PackStereo'),
]
test_pipeline = [dict(type='LoadStereo'), dict(type='PackStereo')]
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='TRAIN', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='TEST',
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='StereoError', thresholds=(1, 3))
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False, base_batch_size=1)
