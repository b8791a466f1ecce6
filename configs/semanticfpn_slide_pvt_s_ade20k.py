_base_ = [
    '_base_/models/semanticfpn_pyramid.py',
    '_base_/datasets/ade20k_aligned.py',
    '_base_/schedules/ade20k_80k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# Start from ImageNet weights, the authors' are not published: convert a baseline's, then
# --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=PATH
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.SlidePVT', arch='small', drop_path_rate=0.1),
)
