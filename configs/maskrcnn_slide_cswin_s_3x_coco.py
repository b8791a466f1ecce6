_base_ = 'maskrcnn_slide_cswin_t_3x_coco.py'

model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='mmeffvit://cswin_s/cswin_to_slide'),
    )
)
