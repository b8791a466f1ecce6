_base_ = [
    '_base_/models/upernet_plain.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# The outputs of four blocks, all at stride 16, go into the head as they are. It then costs what the
# paper's totals at 512x2048 leave for it: 112, 116 and 126 G multiply-adds for T, S and B; after
# mmseg's MultiLevelNeck it costs several times that. The released weights have seen images in
# [-1, 1].
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='mmeffvit.SkipAtViT',
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://skipat_s'),
    ),
    neck=None,
)
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(position=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0))
    )
)
