_base_ = [
    '_base_/models/uformer.py',
    '_base_/datasets/sidd.py',
    '_base_/schedules/sidd_250e_adamw.py',
]

model = dict(train_cfg=dict(mixup=dict(alpha=1.2, begin_epoch=5)))
