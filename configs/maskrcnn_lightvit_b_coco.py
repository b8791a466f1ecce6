_base_ = 'maskrcnn_lightvit_t_coco.py'

model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint='mmeffvit://lightvit_b')),
    neck=dict(in_channels=[128, 256, 512]),
)
