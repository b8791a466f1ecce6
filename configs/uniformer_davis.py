_base_ = [
    '_base_/models/uniformer.py',
    '_base_/datasets/davis_noise.py',
    '_base_/schedules/davis_320k_adam.py',
]
