_base_ = [
    '_base_/models/retinanet_pyramid.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# Start as in maskrcnn_slide_pvt_t_coco.py.
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.SlidePVT', arch='tiny', drop_path_rate=0.1),
)
