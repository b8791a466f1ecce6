_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

# Mask R-CNN on any three-stage backbone (strides 8, 16, 32); the neck adds stride 4, as LightViT's.
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.DualTokenViT', arch='tiny'),
    neck=dict(
        _delete_=True,
        type='mmeffvit.TransposedFPN',
        in_channels=[48, 96, 192],
        out_channels=256,
        num_outs=5,
    ),
)
