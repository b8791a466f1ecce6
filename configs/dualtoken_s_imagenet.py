_base_ = 'dualtoken_t_imagenet.py'

model = dict(backbone=dict(arch='small', token_mlp='mlp'), neck=dict(in_channels=256))
