_base_ = [
    '_base_/models/semanticfpn_pyramid.py',
    '_base_/datasets/ade20k_aligned.py',
    '_base_/schedules/ade20k_80k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# No weights of the authors are published: the start is PVT's.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SlidePVT',
        arch='tiny',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://pvt_t/pvt_to_slide'),
    ),
)
