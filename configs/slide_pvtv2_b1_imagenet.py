_base_ = [
    '_base_/models/classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/schedules/imagenet_300e_flatten.py',
    'mmpretrain::_base_/default_runtime.py',
]

# The authors' recipe is not published; this is their laboratory's for the same hosts.
model = dict(
    backbone=dict(
        _delete_=True, type='mmeffvit.SlidePVTv2', arch='b1', drop_path_rate=0.1, out_indices=-1
    ),
)
train_dataloader = dict(batch_size=128)
