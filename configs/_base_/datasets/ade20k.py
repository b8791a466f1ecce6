_base_ = 'mmseg::_base_/datasets/ade20k.py'

# The field's batch of 16: two crops in each of 8 processes.
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(enable=False, base_batch_size=16)
