# The plain ViT that SkipAt is compared with; weights of timm's or SkipAt's normalisation.
_base_ = 'upernet_skipat_s_ade20k.py'

model = dict(backbone=dict(skip_layers=()))
