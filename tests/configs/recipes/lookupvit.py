from helpers.recipes import called_norm, exempt, flat

DECAY = {
    'lookupvit_s_imagenet': (0.05, exempt(flat, 'position', 'cls_token')),
    'upernet_lookupvit_b_ade20k': (0.01, exempt(called_norm, 'position')),
}
