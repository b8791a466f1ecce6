_base_ = [
    '_base_/models/maskrcnn_pyramid.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# No weights of the authors are published: the start is Swin's.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SlideSwin',
        arch='tiny',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://swin_t/swin_to_slide'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
