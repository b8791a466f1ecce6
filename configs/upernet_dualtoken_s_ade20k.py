_base_ = [
    '_base_/models/upernet_three_stage.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# The authors have no UperNet; this is the Swin family's recipe.
model = dict(
    backbone=dict(
        arch='small', attention=dict(token_mlp='mlp'), drop_path_rate=0.1, norm_eval=True
    ),
    decode_head=dict(in_channels=[64, 128, 256]),
    auxiliary_head=dict(in_channels=128),
)
optim_wrapper = dict(
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(global_token=dict(decay_mult=0.0)))
)
