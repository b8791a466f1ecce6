_base_ = [
    '_base_/models/classifier.py',
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    '_base_/schedules/imagenet_300e_flatten.py',
    'mmpretrain::_base_/default_runtime.py',
]

# The authors' recipe is not published; this is their laboratory's for the same host. The batch is
# ours.
model = dict(
    backbone=dict(
        _delete_=True, type='mmeffvit.SlideCSwin', arch='tiny', drop_path_rate=0.2, out_indices=-1
    ),
)
train_dataloader = dict(batch_size=128)
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
