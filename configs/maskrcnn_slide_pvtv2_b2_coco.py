_base_ = 'maskrcnn_slide_pvtv2_b1_coco.py'

model = dict(backbone=dict(arch='b2'))
