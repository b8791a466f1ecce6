_base_ = 'maskrcnn_slide_pvt_t_coco.py'

model = dict(backbone=dict(type='mmeffvit.SlidePVTv2', arch='b1'))
