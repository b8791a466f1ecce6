_base_ = 'upernet_vit_s_ade20k.py'

# The start is DeiT's weights, which have seen ImageNet's mean and standard deviation.
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='mmeffvit://deit_s')),
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)
