_base_ = [
    '_base_/models/classifier.py',
    '_base_/datasets/imagenet_vit_224.py',
    '_base_/schedules/imagenet_300e_deit.py',
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
train_dataloader = dict(batch_size=128, sampler=dict(type='RepeatAugSampler'))
