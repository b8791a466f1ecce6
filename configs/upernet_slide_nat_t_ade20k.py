_base_ = 'upernet_nat_t_ade20k.py'

# The authors published no weights: start from NAT's.
model = dict(backbone=dict(type='mmeffvit.SlideNAT'))
