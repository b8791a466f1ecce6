_base_ = [
    '_base_/models/upernet_plain.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# The paper has no segmentation: lookup tokens of four blocks are resized to four strides, as
# mmseg's plain ViTs do. Row norms because sizes differ between crops and whole images: see
# demo/size_robustness.py. No weights are published: the start is a plain ViT's; weights of the
# published form want reuse_norm='none'.
model = dict(
    backbone=dict(
        type='mmeffvit.LookupViT',
        arch='base',
        compressed_ratio=4,
        attention=dict(reuse_norm='row'),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://deit_b/vit_to_lookupvit'),
    ),
    neck=dict(in_channels=[768] * 4, out_channels=768),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(position=dict(decay_mult=0.0))))
