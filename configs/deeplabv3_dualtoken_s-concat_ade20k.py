_base_ = 'deeplabv3_dualtoken_s_ade20k.py'

# All three stages at stride 8 under the head.
model = dict(
    backbone=dict(out_indices=(0, 1, 2)),
    neck=dict(levels=(0, 1, 2), scale_factor=1),
    decode_head=dict(in_channels=64 + 128 + 256),
)
