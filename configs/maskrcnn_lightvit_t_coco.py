_base_ = 'maskrcnn_dualtoken_t_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.LightViT',
        arch='tiny',
        drop_path_rate=0.1,
        norm_eval=True,
    ),
    neck=dict(in_channels=[64, 128, 256]),
)
