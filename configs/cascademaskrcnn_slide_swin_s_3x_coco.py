_base_ = 'cascademaskrcnn_slide_swin_t_3x_coco.py'

model = dict(
    backbone=dict(
        arch='small',
        drop_path_rate=0.2,
        init_cfg=dict(checkpoint='mmeffvit://swin_s/swin_to_slide'),
    )
)
