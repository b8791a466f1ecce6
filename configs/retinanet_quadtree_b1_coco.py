_base_ = [
    '_base_/models/retinanet_pyramid.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# Starts as maskrcnn_quadtree_b1_coco.py.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.QuadTreeTransformer',
        arch='b1',
        attention=dict(topks=32, value_act='relu'),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://quadtree_b1_dense'),
    ),
)
