_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

# RetinaNet on any four-stage pyramid (strides 4 to 32); the config names the backbone.
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.PVTv2', arch='b1'),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
