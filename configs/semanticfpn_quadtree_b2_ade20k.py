_base_ = 'semanticfpn_quadtree_b1_ade20k.py'

model = dict(backbone=dict(arch='b2', init_cfg=dict(checkpoint='mmeffvit://quadtree_b2_dense')))
