_base_ = 'slide_pvt_t_imagenet.py'

model = dict(backbone=dict(arch='small'))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
auto_scale_lr = dict(base_batch_size=512)
