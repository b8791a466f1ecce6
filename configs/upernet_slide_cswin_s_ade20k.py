_base_ = 'upernet_slide_cswin_t_ade20k.py'

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='mmeffvit://cswin_s/cswin_to_slide'))
)
