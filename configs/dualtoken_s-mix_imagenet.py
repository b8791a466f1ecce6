_base_ = 'dualtoken_s_imagenet.py'

model = dict(backbone=dict(attention=dict(token_mlp='mix')))
