_base_ = 'slide_pvtv2_b1_imagenet.py'

model = dict(backbone=dict(arch='b4', drop_path_rate=0.3))
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=1.0))
auto_scale_lr = dict(base_batch_size=512)
