_base_ = [
    '_base_/models/semanticfpn_pyramid.py',
    '_base_/datasets/ade20k_aligned.py',
    '_base_/schedules/ade20k_80k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# The paper names PVT as a host of SkipAt; recipe and skipped blocks are PVT's and our choice.
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmeffvit.SkipAtPVT',
        arch='small',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='mmeffvit://pvt_s'),
    ),
)
