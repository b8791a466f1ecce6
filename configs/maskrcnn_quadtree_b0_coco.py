_base_ = 'maskrcnn_quadtree_b1_coco.py'

model = dict(
    backbone=dict(arch='b0', init_cfg=dict(checkpoint='mmeffvit://quadtree_b0_dense')),
    neck=dict(in_channels=[32, 64, 160, 256]),
)
