_base_ = 'quadtree_b1_imagenet.py'

model = dict(backbone=dict(arch='b2'))
