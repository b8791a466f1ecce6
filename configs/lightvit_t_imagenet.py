_base_ = 'dualtoken_t_imagenet.py'

# The authors', which DualToken-ViT follows, but for RandAugment: see dualtoken_t_imagenet.py.
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
