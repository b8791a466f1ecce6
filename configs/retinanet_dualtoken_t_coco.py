_base_ = [
    '_base_/models/retinanet_three_stage.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# The authors' RetinaNet recipe is not public; this is the PVT family's.
model = dict(backbone=dict(drop_path_rate=0.1, norm_eval=True))
