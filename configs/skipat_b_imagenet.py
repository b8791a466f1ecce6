_base_ = 'skipat_s_imagenet.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=768))
