_base_ = 'lightvit_t_imagenet.py'

model = dict(backbone=dict(arch='small'), neck=dict(in_channels=384))
