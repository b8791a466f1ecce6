_base_ = 'retinanet_quadtree_b0_shapes.py'

model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.DualTokenViT', arch='tiny'),
    neck=dict(in_channels=[48, 96, 192], start_level=0),
)
