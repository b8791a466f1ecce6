_base_ = [
    '_base_/models/retinanet_pyramid.py',
    'mmdet::_base_/datasets/coco_detection.py',
    '_base_/schedules/coco_1x_adamw.py',
    'mmdet::_base_/default_runtime.py',
]

# Start from the authors' release for dense models, https://github.com/Tangshitao/
# QuadTreeAttention/releases/download/QuadTreeAttention/b1.pth (b0 to b4): convert it, then
# --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=PATH
# Its value branches have ReLUs, those of the released classifiers GELUs.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.QuadTreeTransformer',
        arch='b1',
        attention=dict(topks=32, value_act='relu'),
        drop_path_rate=0.1,
    ),
)
