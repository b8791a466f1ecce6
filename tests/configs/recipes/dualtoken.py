from helpers.recipes import exempt, flat, norms

BATCHES = {
    r'maskrcnn_dualtoken_.+_coco': (2, 16, 2e-4),
}
MIXUP = {r'dualtoken_.+': 0.2}
DECAY = {
    'dualtoken_t_imagenet': (0.04, exempt(flat, 'global_token')),
    'maskrcnn_dualtoken_t_coco': (0.04, exempt(norms, 'global_token')),
    'upernet_dualtoken_s_ade20k': (0.01, exempt(norms, 'global_token')),
}
