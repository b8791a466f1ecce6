_base_ = [
    '_base_/models/cascademaskrcnn_pyramid.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# Start as in maskrcnn_slide_pvt_t_coco.py.
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.SlideSwin', arch='tiny', drop_path_rate=0.2),
)
