_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

# The PVT family's 12 epochs; lr is for 8 GPUs with 2 images each (Mask R-CNN: 2e-4).
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=1e-4))
