_base_ = 'uformer_s_sidd.py'

model = dict(backbone=dict(type='SkipUformer'))
