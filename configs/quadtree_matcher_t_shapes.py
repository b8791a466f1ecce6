_base_ = [
    '_base_/models/quadtree_matcher.py',
    '_base_/datasets/shapes_pairs.py',
    '_base_/schedules/shapes_pairs_adamw.py',
]

# A small matcher for small pairs: 0.47 million parameters. Of 16x20 cells a border of two would
# leave out four in ten; border and threshold were chosen on other pairs than those of validation.
model = dict(
    backbone=dict(initial_dims=16, block_dims=(16, 32, 64)),
    transformer=dict(num_heads=4, kinds=('self', 'cross') * 2, attention=dict(topks=(8, 4, 4))),
    coarse=dict(threshold=0.4, border=1),
    fine=dict(num_heads=4),
    train_cfg=dict(fine_share=0.15),
)
