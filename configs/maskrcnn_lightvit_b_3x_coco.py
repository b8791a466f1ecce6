_base_ = 'maskrcnn_lightvit_t_3x_coco.py'

model = dict(backbone=dict(arch='base'), neck=dict(in_channels=[128, 256, 512]))
