_base_ = 'imagenet_300e_adamw.py'

# Swin's: 20 epochs of warm-up; it starts at 1/1000 and cosine ends at 1/100 of the rate.
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            position=dict(decay_mult=0.0),
            relative_position_bias_table=dict(decay_mult=0.0),
        )
    )
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        begin=0,
        end=20,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=20,
        end=300,
        convert_to_iter_based=True,
    ),
]
