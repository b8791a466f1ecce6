_base_ = 'retinanet_quadtree_b1_coco.py'

model = dict(backbone=dict(arch='b4'))
