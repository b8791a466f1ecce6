_base_ = 'maskrcnn_lightvit_t_3x_coco.py'

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='mmeffvit://lightvit_s')),
    neck=dict(in_channels=[96, 192, 384]),
)
