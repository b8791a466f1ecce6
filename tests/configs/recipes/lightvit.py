from helpers.recipes import TABLE, exempt, flat, norms

BATCHES = {r'maskrcnn_lightvit_.+_coco': (2, 16, 2e-4)}
MIXUP = {r'lightvit_.+': 0.2}
DECAY = {
    'lightvit_t_imagenet': (0.04, exempt(flat, 'global_token', TABLE)),
    'maskrcnn_lightvit_t_coco': (0.04, exempt(norms, 'global_token', TABLE)),
    'maskrcnn_lightvit_t_3x_coco': (0.04, exempt(norms, 'global_token', TABLE)),
}
IMAGENET_RATES = {'lightvit_t_imagenet': (20, 1e-7, 1e-3, 1e-6)}
