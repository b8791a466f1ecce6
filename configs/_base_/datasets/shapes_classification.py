_base_ = 'shapes_loaders.py'

data_source = (
    'python demo/make_shapes.py data/patterns --tasks classification --num-train 3000 '
    '--num-val 800 --size-range 65 79'
)
dataset_type = 'CustomDataset'
data_root = 'data/patterns/classification/'
metainfo = dict(
    classes=('bricks', 'checks', 'diagonals', 'dots', 'grain', 'rings', 'smooth', 'stripes')
)
data_preprocessor = dict(
    num_classes=8,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=64, pad_if_needed=True),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='CenterCrop', crop_size=64, auto_pad=True),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    sampler=dict(type='DefaultSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        data_prefix='val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

auto_scale_lr = dict(enable=False, base_batch_size=32)
