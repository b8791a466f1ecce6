# The plain ViT that lookupvit_ti_shapes.py is compared with: the same widths, data and schedule.
_base_ = 'lookupvit_ti_shapes.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.VisionTransformer',
        arch=dict(embed_dims=64, depth=4, num_heads=2),
        img_size=64,
        patch_size=8,
        with_cls_token=False,
        out_type='avg_featmap',
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
    head=dict(
        _delete_=True,
        type='LinearClsHead',
        num_classes=8,
        in_channels=64,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        loss=dict(type='CrossEntropyLoss'),
    ),
)
custom_hooks = None
