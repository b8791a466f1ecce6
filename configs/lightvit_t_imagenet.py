_base_ = 'dualtoken_t_imagenet.py'

# The baseline of DualToken-ViT, whose recipe is this one's.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.LightViT',
        arch='tiny',
        out_type='raw',
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=256),
)
