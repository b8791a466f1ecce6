_base_ = [
    '_base_/models/retinanet_pyramid.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# No weights of the authors are published: the start is PVT's.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SlidePVT',
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://pvt_t/pvt_to_slide'),
    ),
)
