# The plain ViT that SkipAt is compared with. The SkipAt authors published no weights of this size:
# the start is timm's, of the same normalisation.
_base_ = 'upernet_skipat_b_ade20k.py'

model = dict(backbone=dict(skip_layers=(), init_cfg=dict(checkpoint='mmeffvit://vit_b_augreg')))
