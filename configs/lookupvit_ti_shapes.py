# `make demo-elastic`: from scratch, then one checkpoint evaluated at several numbers of compressed
# tokens, beside vit_ti_shapes.py.
_base_ = [
    '_base_/models/lookupvit_classifier.py',
    '_base_/datasets/shapes_classification.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=64, depth=4, num_heads=2),
        compressed_size=(3, 3),
        img_size=64,
        patch_size=8,
        drop_path_rate=0.0,
        # So narrow a model hardly leaves its start with ViT's standard deviation of 0.02.
        init_cfg=dict(type='Xavier', layer='Linear', distribution='uniform'),
    ),
    head=dict(
        num_classes=8,
        infer_from='compressed',  # lookup tokens alone see patches, whose patterns are cut
        in_channels=64,
        loss=dict(_delete_=True, type='CrossEntropyLoss'),
    ),
    train_cfg=None,
)
custom_hooks = [
    dict(type='mmeffvit.CompressedSizeHook', sizes=[(1, 1), (2, 2), (3, 3)]),
]

max_epochs = 3
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1.5e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, convert_to_iter_based=True, T_max=max_epochs),
]
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
)
