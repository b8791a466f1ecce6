_base_ = 'imagenet_300e_adamw.py'

# FLatten-Transformer's, from the laboratory of Slide-Transformer: warm-up starts at 1/500 and
# cosine ends at 1/50 of the rate.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(decay_mult=0.0))),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=2e-3,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.02,
        by_epoch=True,
        begin=5,
        end=300,
        convert_to_iter_based=True,
    ),
]
