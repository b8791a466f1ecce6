_base_ = 'slide_pvtv2_b3_imagenet.py'

model = dict(backbone=dict(arch='b5'))
