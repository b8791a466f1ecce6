_base_ = 'uniformer_davis.py'

model = dict(backbone=dict(type='SkipUniFormerUNet'))
