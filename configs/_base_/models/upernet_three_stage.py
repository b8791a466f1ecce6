_base_ = 'mmseg::_base_/models/upernet_r50.py'

# UperNet on any three-stage backbone (strides 8, 16, 32); the config names the backbone.
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(_delete_=True, type='mmeffvit.DualTokenViT', arch='tiny'),
    decode_head=dict(in_channels=[48, 96, 192], in_index=[0, 1, 2], num_classes=150),
    auxiliary_head=dict(in_channels=96, in_index=1, num_classes=150),
)
