from helpers.recipes import called_norm, exempt, flat, norms

BATCHES = {r'semanticfpn_skipat_.+_ade20k': (2, 16, 1e-4)}
HALF = [127.5] * 3, [127.5] * 3
NORMALISATION = {
    r'upernet_vit_.-deit_ade20k': ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    r'skipat_._imagenet': HALF,
    r'(upernet|maskrcnn|retinanet)_(skipat|vit)_[tsb]_.+': HALF,
}
SAMPLER = {r'skipat_.+': 'RepeatAugSampler'}
TEST_EDGE = {r'skipat_.+': 248}
PLAIN = 'position', 'cls_token'
DECAY = {
    'skipat_t_imagenet': (0.05, exempt(flat, *PLAIN)),
    'upernet_skipat_t_ade20k': (0.01, exempt(called_norm, *PLAIN)),
    'maskrcnn_skipat_s_coco': (0.05, exempt(norms, *PLAIN)),
}
IMAGENET_RATES = {'skipat_s_imagenet': (5, 1e-6, 1e-3, 1e-5)}
