_base_ = 'semanticfpn_slide_pvt_t_ade20k.py'

model = dict(backbone=dict(arch='small', init_cfg=dict(checkpoint='mmeffvit://pvt_s/pvt_to_slide')))
