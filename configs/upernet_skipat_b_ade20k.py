_base_ = 'upernet_skipat_s_ade20k.py'

model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint='mmeffvit://vit_b_augreg/vit_to_skipat')),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
)
