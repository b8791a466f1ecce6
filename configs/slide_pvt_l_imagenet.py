_base_ = 'slide_pvt_m_imagenet.py'

model = dict(backbone=dict(arch='large'))
