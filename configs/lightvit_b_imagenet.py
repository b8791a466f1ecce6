_base_ = 'lightvit_t_imagenet.py'

model = dict(backbone=dict(arch='base'), neck=dict(in_channels=512))
