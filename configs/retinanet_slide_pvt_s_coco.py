_base_ = 'retinanet_slide_pvt_t_coco.py'

model = dict(backbone=dict(arch='small'))
