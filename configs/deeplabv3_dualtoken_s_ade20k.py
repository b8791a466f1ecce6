_base_ = 'deeplabv3_dualtoken_t_ade20k.py'

model = dict(
    backbone=dict(arch='small', attention=dict(token_mlp='mlp')),
    decode_head=dict(in_channels=256),
    auxiliary_head=dict(in_channels=128),
)
