_base_ = [
    '_base_/models/semanticfpn_pyramid.py',
    '_base_/datasets/ade20k_aligned.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
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
# The authors' rule for norms is by name and misses the GroupNorms of the value branches.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(head=dict(lr_mult=10.0), value_branches=dict(decay_mult=1.0))
    )
)
