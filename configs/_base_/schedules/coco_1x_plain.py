_base_ = 'coco_1x_adamw.py'

# For plain transformers: neither norms nor positions nor the class token decay.
optim_wrapper = dict(
    optimizer=dict(weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys=dict(position=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)),
    ),
)
