_base_ = 'upernet_skipat_s_ade20k.py'

model = dict(
    backbone=dict(arch='base'),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
)
