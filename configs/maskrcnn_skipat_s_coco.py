_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# The paper has no detection: the last map makes a simple feature pyramid, as in ViTDet. The
# released weights have seen images in [-1, 1].
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SkipAtViT',
        arch='small',
        drop_path_rate=0.1,
    ),
    neck=dict(
        _delete_=True,
        type='mmeffvit.SimpleFeaturePyramid',
        in_channels=384,
        num_outs=5,
    ),
)
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(position=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)),
    ),
)
