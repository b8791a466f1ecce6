_base_ = 'deeplabv3_dualtoken_s_ade20k.py'

# Stage 3 as it is under the head.
model = dict(neck=dict(scale_factor=1))
