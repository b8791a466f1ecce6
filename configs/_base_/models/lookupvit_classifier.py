# LookupViT with a classifier on each token set, trained for several numbers of compressed tokens.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmeffvit.LookupViT',
        arch='base',
        compressed_size=(5, 5),
        out_type='pooled',
        drop_path_rate=0.1,
    ),
    head=dict(
        type='mmeffvit.LookupViTClsHead',
        num_classes=1000,
        in_channels=768,
        infer_from='both',
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
custom_hooks = [
    dict(type='mmeffvit.CompressedSizeHook', sizes=[(3, 3), (5, 5), (7, 7), (10, 10)]),
]
