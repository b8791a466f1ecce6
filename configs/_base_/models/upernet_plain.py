_base_ = 'upernet_pyramid.py'

# UperNet on a plain backbone: the outputs of four blocks are resized to four strides, as mmseg's
# plain ViTs do; the config names the backbone and its width.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.VisionTransformer',
        arch='small',
        out_indices=(2, 5, 8, 11),
    ),
    neck=dict(
        type='MultiLevelNeck', in_channels=[384] * 4, out_channels=384, scales=[4, 2, 1, 0.5]
    ),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384, in_index=3),
)
