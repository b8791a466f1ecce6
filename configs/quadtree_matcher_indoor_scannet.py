_base_ = [
    '_base_/models/quadtree_matcher.py',
    '_base_/datasets/scannet_pairs.py',
    '_base_/schedules/scannet_30e_adamw.py',
]

model = dict(transformer=dict(attention=dict(topks=(32, 16, 16))), train_cfg=dict(fine_share=0.2))
