# The plain ViT that fcn_lookupvit_ti_shapes.py is compared with: equal widths, data and schedule.
_base_ = 'fcn_lookupvit_ti_shapes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.VisionTransformer',
        arch=dict(embed_dims=64, depth=4, num_heads=2),
        img_size=80,
        patch_size=8,
        with_cls_token=False,
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
)
custom_hooks = None
