_base_ = 'mmseg::_base_/models/deeplabv3_r50-d8.py'

# DeepLabv3 on any three-stage backbone (strides 8, 16, 32): the head's map is stage 3 at stride 8.
# scale_factor=1 leaves it at stride 32; for all three stages at stride 8 let the backbone give
# them and set levels=(0, 1, 2), scale_factor=1 and the head's in_channels to their sum.
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(_delete_=True, type='mmeffvit.DualTokenViT', arch='tiny', out_indices=(1, 2)),
    neck=dict(type='mmeffvit.ResizeLevels', scale_factor=4),
    decode_head=dict(in_channels=192, in_index=-1, num_classes=150),
    auxiliary_head=dict(in_channels=96, in_index=-3, num_classes=150),
)
