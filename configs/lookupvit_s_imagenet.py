_base_ = 'lookupvit_b_imagenet.py'

model = dict(backbone=dict(arch='small'), head=dict(in_channels=384))
