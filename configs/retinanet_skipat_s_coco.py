_base_ = [
    '_base_/models/retinanet_plain.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_1x_plain.py',
    'mmdet::_base_/default_runtime.py',
]

# As maskrcnn_skipat_s_coco.py.
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='mmeffvit.SkipAtViT',
        arch='small',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://skipat_s'),
    ),
)
