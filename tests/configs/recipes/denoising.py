from helpers.recipes import nothing

BATCHES = {
    r'uformer.+_sidd': (4, 32, 2e-4),
    r'uniformer.*_davis': (8, 64, 1e-3),
}
DROP_PATH = {
    r'uformer.+_sidd': 0.1,
    r'uniformer.*_davis': 0.0,
}
DECAY = {
    'uformer_t_sidd': (0.02, nothing),
    'uniformer_davis': (0.0, nothing),
}
