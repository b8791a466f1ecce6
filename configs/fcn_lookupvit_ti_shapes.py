_base_ = ['_base_/datasets/shapes_segmentation.py', 'mmseg::_base_/default_runtime.py']

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

max_iters = 1200
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=400)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=400, max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
