_base_ = 'slide_pvtv2_b1_imagenet.py'

# The size is ours, the recipe that of b1.
model = dict(backbone=dict(arch='b0'), head=dict(in_channels=256))
