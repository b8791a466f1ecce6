_base_ = 'slide_pvt_t_imagenet.py'

model = dict(backbone=dict(type='mmeffvit.SlidePVTv2', arch='b1'))
