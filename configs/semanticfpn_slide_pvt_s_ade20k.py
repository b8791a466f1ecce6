_base_ = 'semanticfpn_slide_pvt_t_ade20k.py'

model = dict(backbone=dict(arch='small'))
