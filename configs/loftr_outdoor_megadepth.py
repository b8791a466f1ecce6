_base_ = [
    '_base_/models/loftr.py',
    '_base_/datasets/megadepth_pairs.py',
    '_base_/schedules/megadepth_30e_adamw.py',
]

model = dict(coarse_loss=dict(sparse=True))
