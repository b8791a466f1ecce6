_base_ = 'uformer_b_sidd.py'

model = dict(backbone=dict(type='SkipUformer'))
