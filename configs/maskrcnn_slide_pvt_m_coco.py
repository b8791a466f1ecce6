_base_ = 'maskrcnn_slide_pvt_t_coco.py'

model = dict(
    backbone=dict(
        arch='medium', drop_path_rate=0.0, init_cfg=dict(checkpoint='mmeffvit://pvt_m/pvt_to_slide')
    )
)
