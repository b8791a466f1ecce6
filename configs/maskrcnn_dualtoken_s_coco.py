_base_ = 'maskrcnn_dualtoken_t_coco.py'

model = dict(
    backbone=dict(arch='small', attention=dict(token_mlp='mlp')),
    neck=dict(in_channels=[64, 128, 256]),
)
