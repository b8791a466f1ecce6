_base_ = 'maskrcnn_quadtree_b1_3x_coco.py'

model = dict(backbone=dict(arch='b4', init_cfg=dict(checkpoint='mmeffvit://quadtree_b4_dense')))
