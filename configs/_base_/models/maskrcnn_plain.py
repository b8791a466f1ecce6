_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

# Mask R-CNN on a plain backbone: its last map (stride 16) makes a simple feature pyramid, as in
# ViTDet; the config names the backbone and its width.
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.VisionTransformer', arch='small'),
    neck=dict(_delete_=True, type='mmeffvit.SimpleFeaturePyramid', in_channels=384, num_outs=5),
)
