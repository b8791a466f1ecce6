_base_ = [
    '_base_/models/maskrcnn_three_stage.py',
    '_base_/datasets/coco_instance_multiscale.py',
    '_base_/schedules/coco_3x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# LightViT's detection recipe for 36 epochs.
model = dict(
    backbone=dict(
        arch='small', attention=dict(token_mlp='mlp'), drop_path_rate=0.1, norm_eval=True
    ),
    neck=dict(in_channels=[64, 128, 256]),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=0.04),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(global_token=dict(decay_mult=0.0))),
)
