_base_ = [
    '_base_/models/uformer.py',
    '_base_/datasets/shapes_denoising.py',
    '_base_/schedules/shapes_denoising_adamw.py',
]

model = dict(backbone=dict(drop_path_rate=0.0))
