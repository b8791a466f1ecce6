_base_ = 'mmseg::_base_/models/fpn_r50.py'

# Semantic FPN on any four-stage pyramid (strides 4 to 32); the config names the backbone.
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(_delete_=True, type='mmeffvit.PVTv2', arch='b1'),
    neck=dict(in_channels=[64, 128, 320, 512]),
    decode_head=dict(num_classes=150),
)
