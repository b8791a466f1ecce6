# The paper gives no recipe for this host: that of the baseline.
_base_ = 'nat_t_imagenet.py'

model = dict(backbone=dict(type='mmeffvit.SlideNAT'))
