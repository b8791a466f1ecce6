_base_ = 'upernet_nat_t_ade20k.py'

# The authors published no weights: this starts from initial values, or convert NAT's with --family
# nat_to_slide.
model = dict(backbone=dict(type='mmeffvit.SlideNAT'))
