_base_ = 'retinanet_slide_pvt_t_coco.py'

model = dict(backbone=dict(arch='small', init_cfg=dict(checkpoint='mmeffvit://pvt_s/pvt_to_slide')))
