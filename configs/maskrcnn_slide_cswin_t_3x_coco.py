_base_ = 'maskrcnn_slide_swin_t_3x_coco.py'

# Neither weights nor a recipe of the authors are published: the recipe is that of Slide-Swin, the
# start CSWin's.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SlideCSwin',
        arch='tiny',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://cswin_t/cswin_to_slide'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
