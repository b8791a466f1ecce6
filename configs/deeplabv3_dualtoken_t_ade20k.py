_base_ = [
    '_base_/models/deeplabv3_three_stage.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/ade20k_160k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# The authors' segmentation recipe is not public; this is the field's for light transformers.
model = dict(backbone=dict(drop_path_rate=0.1, norm_eval=True))
optim_wrapper = dict(
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys=dict(global_token=dict(decay_mult=0.0)))
)
