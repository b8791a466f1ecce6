_base_ = 'cascademaskrcnn_slide_swin_t_3x_coco.py'

model = dict(
    backbone=dict(
        arch='base', drop_path_rate=0.3, init_cfg=dict(checkpoint='mmeffvit://swin_b/swin_to_slide')
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
