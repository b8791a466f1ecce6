_base_ = 'shapes_segmentation.py'

data_source = (
    'python demo/make_shapes.py data/patterns --tasks mosaics --num-train 1000 --num-val 200 '
    '--size-range 80 80'
)
data_root = 'data/patterns/mosaics/'
metainfo = dict(
    classes=('blue', 'green', 'red', 'white'),
    palette=[[60, 90, 230], [60, 160, 60], [230, 60, 60], [230, 230, 230]],
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(80, 80), ratio_range=(1.0, 1.2), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(80, 80)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=32,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=20,
    dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=32)
