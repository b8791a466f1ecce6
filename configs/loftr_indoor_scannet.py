_base_ = [
    '_base_/models/loftr.py',
    '_base_/datasets/scannet_pairs.py',
    '_base_/schedules/scannet_30e_adamw.py',
]

model = dict(coarse_loss=dict(sparse=True), train_cfg=dict(fine_share=0.2))
