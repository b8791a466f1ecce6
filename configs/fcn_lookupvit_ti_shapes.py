_base_ = [
    '_base_/datasets/shapes_segmentation.py',
    '_base_/schedules/shapes_segmentation_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# From scratch on crops of 128 pixels: mIoU 0.32 after these few steps, for plain patches learn
# slowly. tools/analysis_tools/elastic_eval.py then evaluates the one checkpoint at several numbers
# of compressed tokens.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(128, 128),
    ),
    backbone=dict(
        type='mmeffvit.LookupViT',
        arch=dict(embed_dims=96, depth=4, num_heads=3),
        compressed_size=(4, 4),
        attention=dict(reuse_norm='row'),
        img_size=128,
        patch_size=8,
        # So narrow a model hardly leaves its start with ViT's standard deviation of 0.02.
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=96,
        in_index=0,
        channels=96,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=5,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', class_weight=[0.25, 1.0, 1.0, 1.0, 1.0]),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
custom_hooks = [
    dict(type='mmeffvit.CompressedSizeHook', sizes=[(2, 2), (4, 4), (6, 6), (8, 8)]),
]
