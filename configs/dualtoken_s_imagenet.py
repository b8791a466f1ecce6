_base_ = 'dualtoken_t_imagenet.py'

model = dict(
    backbone=dict(arch='small', attention=dict(token_mlp='mlp')), neck=dict(in_channels=256)
)
