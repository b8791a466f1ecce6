# Swin's recipe, which the paper follows.
_base_ = 'upernet_slide_swin_t_ade20k.py'

# The authors start from ImageNet weights, which the index of published weights does not list; this
# starts from initial values. Convert theirs and
# --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=PATH
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.NAT', arch='tiny', drop_path_rate=0.2),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
