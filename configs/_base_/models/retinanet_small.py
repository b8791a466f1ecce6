# RetinaNet for images of at most 128 pixels: three levels, 64 channels, two convolutions per head.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'

model = dict(
    neck=dict(out_channels=64, num_outs=3),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        anchor_generator=dict(octave_base_scale=3, strides=[8, 16, 32]),
    ),
    test_cfg=dict(nms_pre=300, max_per_img=50),
)
