_base_ = 'upernet_slide_swin_t_ade20k.py'

# Neither weights nor a recipe of the authors are published: the recipe is that of Slide-Swin, the
# start CSWin's.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SlideCSwin',
        arch='tiny',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://cswin_t/cswin_to_slide'),
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
