_base_ = [
    '_base_/models/maskrcnn_pyramid.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# The start is the authors' release for dense models, whose code has ReLUs in the value branches;
# that of the released classifiers has GELUs.
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
optim_wrapper = dict(optimizer=dict(lr=2e-4))
