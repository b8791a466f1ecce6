DROP_PATH = {
    r'(slide_)?nat_(mini|t)_imagenet|(maskrcnn|upernet)_(slide_)?nat_t_.+': 0.2,
    r'(slide_)?nat_s_imagenet': 0.3,
    r'nat_b_imagenet': 0.5,
}
