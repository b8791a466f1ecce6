# Swin's recipe, which the paper follows.
_base_ = 'slide_swin_t_imagenet.py'

model = dict(
    backbone=dict(
        _delete_=True, type='mmeffvit.NAT', arch='tiny', drop_path_rate=0.2, out_indices=-1
    ),
    head=dict(in_channels=512),
)
