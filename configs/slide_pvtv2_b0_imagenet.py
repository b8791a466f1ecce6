_base_ = 'slide_pvtv2_b1_imagenet.py'

model = dict(backbone=dict(arch='b0'), head=dict(in_channels=256))
