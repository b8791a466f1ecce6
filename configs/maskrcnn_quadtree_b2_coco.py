_base_ = 'maskrcnn_quadtree_b1_coco.py'

model = dict(backbone=dict(arch='b2', init_cfg=dict(checkpoint='mmeffvit://quadtree_b2_dense')))
