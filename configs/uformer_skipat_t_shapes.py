_base_ = 'uformer_t_shapes.py'

model = dict(backbone=dict(type='SkipUformer'))
