_base_ = [
    '_base_/models/sttr.py',
    '_base_/datasets/shapes_stereo.py',
    '_base_/schedules/shapes_stereo_adamw.py',
]

# A small network for small pairs: 53 tokens per line.
model = dict(
    features=dict(_delete_=True, type='UNetFeatures', embed_dims=32),
    transformer=dict(num_heads=4, depth=3, with_cp=False),
    regression=dict(context=dict(num_blocks=4)),
)
