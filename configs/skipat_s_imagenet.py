_base_ = [
    '_base_/models/classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/schedules/imagenet_300e_adamw.py',
    'mmpretrain::_base_/default_runtime.py',
]

# DeiT's recipe: the authors have not published theirs. Normalisation, crop and initialisation are
# those of their released models.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SkipAtViT',
        arch='small',
        init='official',
        out_type='cls_token',
        drop_path_rate=0.1,
    ),
    neck=None,
    head=dict(in_channels=384),
)
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=248, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=128)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
