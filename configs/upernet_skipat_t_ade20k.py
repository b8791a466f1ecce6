_base_ = 'upernet_skipat_s_ade20k.py'

model = dict(
    backbone=dict(arch='tiny'),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
