_base_ = [
    '_base_/models/maskrcnn_pyramid.py',
    'mmdet::_base_/datasets/coco_instance.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# The authors start from ImageNet weights: convert them, then
# --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=PATH
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.QuadTreeTransformer',
        arch='b1',
        attention=dict(topks=32, value_act='relu'),
        drop_path_rate=0.1,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
