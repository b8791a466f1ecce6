_base_ = [
    '_base_/models/quadtree_matcher.py',
    '_base_/datasets/shapes_pairs.py',
    '_base_/schedules/shapes_pairs_adamw.py',
]

# A small matcher for small pairs: 0.47 million parameters.
model = dict(
    backbone=dict(initial_dims=16, block_dims=(16, 32, 64)),
    transformer=dict(num_heads=4, kinds=('self', 'cross') * 2, attention=dict(topks=(8, 4, 4))),
    fine=dict(num_heads=4),
    train_cfg=dict(fine_share=0.15),
)
