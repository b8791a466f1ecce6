_base_ = 'maskrcnn_slide_pvt_t_coco.py'

model = dict(
    backbone=dict(
        type='mmeffvit.SlidePVTv2',
        arch='b1',
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://pvtv2_b1/pvtv2_to_slide'),
    )
)
