_base_ = [
    '_base_/models/upernet_pyramid.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# The authors have no UperNet; this is the Swin family's recipe. It starts as
# maskrcnn_quadtree_b1_coco.py.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.QuadTreeTransformer',
        arch='b2',
        attention=dict(topks=32, value_act='relu'),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://quadtree_b2_dense'),
    ),
)
