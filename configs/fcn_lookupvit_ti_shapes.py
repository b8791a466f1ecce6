# Second task of `make demo-elastic`: from scratch, then one checkpoint evaluated at several numbers
# of compressed tokens, beside fcn_vit_ti_shapes.py.
_base_ = [
    '_base_/datasets/shapes_mosaics.py',
    '_base_/schedules/shapes_segmentation_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(80, 80),
    ),
    backbone=dict(
        type='mmeffvit.LookupViT',
        arch=dict(embed_dims=64, depth=4, num_heads=2),
        compressed_size=(3, 3),
        out_tokens='add',
        img_size=80,
        patch_size=8,
        # So narrow a model hardly leaves its start with ViT's standard deviation of 0.02.
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
    # Linear: what a patch knows of its neighbours it knows from the backbone.
    decode_head=dict(
        type='FCNHead',
        in_channels=64,
        in_index=0,
        channels=64,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=4,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
custom_hooks = [
    dict(type='mmeffvit.CompressedSizeHook', sizes=[(1, 1), (2, 2), (3, 3), (4, 4)]),
]

train_cfg = dict(max_iters=400, val_interval=400)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
