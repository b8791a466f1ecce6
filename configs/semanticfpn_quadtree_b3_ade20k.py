_base_ = 'semanticfpn_quadtree_b1_ade20k.py'

model = dict(backbone=dict(arch='b3', init_cfg=dict(checkpoint='mmeffvit://quadtree_b3_dense')))
