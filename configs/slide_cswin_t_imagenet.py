_base_ = 'slide_pvt_t_imagenet.py'

# As for the other hosts, with a longer warm-up and a moving average. The batch is ours.
model = dict(backbone=dict(type='mmeffvit.SlideCSwin', drop_path_rate=0.2))
param_scheduler = [
    dict(type='LinearLR', start_factor=2e-3, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.02,
        by_epoch=True,
        begin=20,
        end=300,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [dict(type='EMAHook', momentum=1e-4, update_buffers=True, priority='ABOVE_NORMAL')]
