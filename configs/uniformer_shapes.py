_base_ = [
    '_base_/models/uniformer.py',
    '_base_/datasets/shapes_video.py',
    '_base_/schedules/shapes_denoising_adamw.py',
]

# A quarter of the width; GroupNorm for the small batch.
model = dict(
    backbone=dict(embed_dims=(8, 16, 32, 64), head_dims=8, norm='group'),
    test_cfg=dict(tile=64, overlap=16),
)
