_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

# RetinaNet on any three-stage backbone (strides 8, 16, 32), whose levels start at stride 8 as well.
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.DualTokenViT', arch='tiny'),
    neck=dict(in_channels=[48, 96, 192], start_level=0),
)
