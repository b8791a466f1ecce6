_base_ = 'upernet_skipat_s_ade20k.py'

model = dict(
    backbone=dict(arch='tiny', init_cfg=dict(checkpoint='mmeffvit://skipat_t')),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
