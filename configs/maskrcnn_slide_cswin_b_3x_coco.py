_base_ = 'maskrcnn_slide_cswin_t_3x_coco.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.5,
        init_cfg=dict(checkpoint='mmeffvit://cswin_b/cswin_to_slide'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
