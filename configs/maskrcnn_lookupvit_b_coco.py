_base_ = [
    '_base_/models/maskrcnn_plain.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '_base_/schedules/coco_1x_plain.py',
    'mmdet::_base_/default_runtime.py',
]

# The paper has no detection: the lookup tokens of the last block are the map. Row norms because
# images vary in size: see demo/size_robustness.py. No weights are published: the start is a plain
# ViT's; weights of the published form want reuse_norm='none'.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.LookupViT',
        arch='base',
        compressed_ratio=4,
        attention=dict(reuse_norm='row'),
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://deit_b/vit_to_lookupvit'),
    ),
    neck=dict(in_channels=768),
)
