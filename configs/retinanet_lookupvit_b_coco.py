_base_ = [
    '_base_/models/retinanet_plain.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_1x_plain.py',
    'mmdet::_base_/default_runtime.py',
]

# As maskrcnn_lookupvit_b_coco.py.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.LookupViT',
        arch='base',
        compressed_ratio=4,
        attention=dict(reuse_norm='row'),
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://deit_b/vit_to_lookupvit'),
    ),
    neck=dict(in_channels=768),
)
