_base_ = 'uformer_t_sidd.py'

model = dict(backbone=dict(type='SkipUformer'))
