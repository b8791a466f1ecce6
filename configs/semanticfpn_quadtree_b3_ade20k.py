_base_ = 'semanticfpn_quadtree_b1_ade20k.py'

model = dict(backbone=dict(arch='b3'))
