_base_ = 'semanticfpn_quadtree_b1_ade20k.py'

model = dict(backbone=dict(arch='b0'), neck=dict(in_channels=[32, 64, 160, 256]))
