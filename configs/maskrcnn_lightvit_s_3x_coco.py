_base_ = 'maskrcnn_lightvit_t_3x_coco.py'

model = dict(backbone=dict(arch='small'), neck=dict(in_channels=[96, 192, 384]))
