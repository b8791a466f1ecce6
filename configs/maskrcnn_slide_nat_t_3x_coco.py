_base_ = 'maskrcnn_nat_t_3x_coco.py'

# The authors published no weights: this starts from initial values, or convert NAT's with --family
# nat_to_slide.
model = dict(backbone=dict(type='mmeffvit.SlideNAT'))
