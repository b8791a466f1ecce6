_base_ = 'slide_pvtv2_b4_imagenet.py'

# The size is ours, the recipe that of b4.
model = dict(backbone=dict(arch='b5'))
