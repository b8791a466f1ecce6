_base_ = [
    '_base_/models/upernet_pyramid.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# No weights of the authors are published: the start is Swin's.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SlideSwin',
        arch='tiny',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://swin_t/swin_to_slide'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
