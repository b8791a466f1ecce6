_base_ = 'skipat_s_imagenet.py'

model = dict(backbone=dict(arch='tiny'), head=dict(in_channels=192))
