_base_ = [
    '_base_/models/classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/schedules/imagenet_300e_adamw.py',
    'mmpretrain::_base_/default_runtime.py',
]

# The authors' recipe is not published; this is their laboratory's for the same hosts.
model = dict(
    backbone=dict(
        _delete_=True, type='mmeffvit.SlidePVTv2', arch='b4', drop_path_rate=0.3, out_indices=-1
    ),
)
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0))),
    clip_grad=dict(max_norm=1.0),
)
