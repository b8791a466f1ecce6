_base_ = [
    '_base_/models/semanticfpn_pyramid.py',
    '_base_/datasets/ade20k_aligned.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
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
# The authors' rule for norms is by name and misses the GroupNorms of the value branches.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(head=dict(lr_mult=10.0), value_branches=dict(decay_mult=1.0))
    )
)
