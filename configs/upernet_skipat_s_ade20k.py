_base_ = [
    '_base_/models/upernet_plain.py',
    'mmseg::_base_/datasets/ade20k.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# The released weights have seen images in [-1, 1].
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(type='mmeffvit.SkipAtViT', final_norm=False, drop_path_rate=0.1),
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(position=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0))
    )
)
train_dataloader = dict(batch_size=2)
