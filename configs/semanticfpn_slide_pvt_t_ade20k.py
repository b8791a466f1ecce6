_base_ = [
    '_base_/models/semanticfpn_pyramid.py',
    '_base_/datasets/ade20k_aligned.py',
    '_base_/schedules/ade20k_80k_adamw.py',
    'mmseg::_base_/default_runtime.py',
]

# Start as in maskrcnn_slide_pvt_t_coco.py.
model = dict(
    backbone=dict(_delete_=True, type='mmeffvit.SlidePVT', arch='tiny', drop_path_rate=0.1),
)
