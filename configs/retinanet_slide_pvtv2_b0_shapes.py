_base_ = 'retinanet_quadtree_b0_shapes.py'

model = dict(backbone=dict(_delete_=True, type='mmeffvit.SlidePVTv2', arch='b0'))
