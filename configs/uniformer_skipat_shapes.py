_base_ = 'uniformer_shapes.py'

model = dict(backbone=dict(type='SkipUniFormerUNet'))
