_base_ = [
    '_base_/models/quadtree_matcher.py',
    '_base_/datasets/megadepth_pairs.py',
    '_base_/schedules/megadepth_30e_adamw.py',
]
