_base_ = [
    '_base_/models/maskrcnn_three_stage.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# LightViT's detection recipe. The authors start from ImageNet weights, which are not published, nor
# has DualToken-ViT a baseline: this starts from initial values. To start from your own,
# --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=PATH
model = dict(backbone=dict(drop_path_rate=0.1, norm_eval=True))
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=0.04),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(global_token=dict(decay_mult=0.0))),
)
