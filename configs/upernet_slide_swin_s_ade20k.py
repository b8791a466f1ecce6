_base_ = 'upernet_slide_swin_t_ade20k.py'

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='mmeffvit://swin_s/swin_to_slide'))
)
