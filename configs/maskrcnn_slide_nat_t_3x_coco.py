_base_ = 'maskrcnn_nat_t_3x_coco.py'

# The authors published no weights: start from NAT's.
model = dict(backbone=dict(type='mmeffvit.SlideNAT'))
