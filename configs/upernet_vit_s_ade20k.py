# The plain ViT that SkipAt is compared with, from the SkipAt authors' weights.
_base_ = 'upernet_skipat_s_ade20k.py'

model = dict(backbone=dict(skip_layers=(), init_cfg=dict(checkpoint='mmeffvit://vit_s')))
