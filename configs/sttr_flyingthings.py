_base_ = [
    '_base_/models/sttr.py',
    '_base_/datasets/flyingthings.py',
    '_base_/schedules/flyingthings_15e_adamw.py',
]
