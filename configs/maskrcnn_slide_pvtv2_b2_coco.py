_base_ = 'maskrcnn_slide_pvtv2_b1_coco.py'

model = dict(
    backbone=dict(arch='b2', init_cfg=dict(checkpoint='mmeffvit://pvtv2_b2/pvtv2_to_slide'))
)
