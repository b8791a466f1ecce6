_base_ = 'mmseg::_base_/schedules/schedule_80k.py'

# The PVT family's Semantic FPN: 80k iterations of batch 16.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
)
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, begin=0, end=80000, by_epoch=False)]
