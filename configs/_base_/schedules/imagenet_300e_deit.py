_base_ = 'imagenet_300e_adamw.py'

# DeiT's rule for plain transformers: neither positions nor the class token decay.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(position=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0))
    )
)
