_base_ = 'maskrcnn_dualtoken_s_3x_coco.py'

# The authors' recipe; see maskrcnn_lightvit_t_coco.py.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.LightViT',
        arch='tiny',
        drop_path_rate=0.1,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://lightvit_t'),
    ),
    neck=dict(in_channels=[64, 128, 256]),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0)))
)
