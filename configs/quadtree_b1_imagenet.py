_base_ = [
    '_base_/models/classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/schedules/imagenet_300e_adamw.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.QuadTreeTransformer',
        arch='b1',
        drop_path_rate=0.1,
        out_indices=-1,
    ),
)
train_dataloader = dict(batch_size=128, sampler=dict(type='RepeatAugSampler'))
