_base_ = 'maskrcnn_dualtoken_t_coco.py'

# The authors' recipe. Their detection code makes 512 global tokens unless told otherwise, but the
# multiply-adds that they publish are those of the classifiers' 8, which start it exactly.
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
