# The tile is the size the network is trained at: attention spans the whole of it.
model = dict(
    type='Restorer',
    backbone=dict(type='UniFormerUNet', num_frames=7),
    loss=dict(type='CharbonnierLoss', eps=1e-3),
    test_cfg=dict(tile=128, overlap=32),
)
