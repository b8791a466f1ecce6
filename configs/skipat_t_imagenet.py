_base_ = 'skipat_s_imagenet.py'

model = dict(backbone=dict(arch='tiny', drop_path_rate=0.0), head=dict(in_channels=192))
