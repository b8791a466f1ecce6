_base_ = 'nat_t_imagenet.py'

model = dict(backbone=dict(arch='mini'))
