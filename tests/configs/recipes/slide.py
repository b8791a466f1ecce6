from helpers.recipes import TABLE, called_norm, exempt, flat, nothing

BATCHES = {
    r'slide_pvt_[sm]_imagenet|slide_pvtv2_b[45]_imagenet|slide_swin_b_imagenet': (64, 512, 5e-4),
    r'slide_pvt_l_imagenet': (32, 256, 2.5e-4),
    r'maskrcnn_slide_pvt.+_coco': (2, 16, 2e-4),
    r'semanticfpn_slide_.+_ade20k': (2, 16, 1e-4),
}
DROP_PATH = {
    r'(slide_pvt_[ml]|slide_pvtv2_b[345])_imagenet': 0.3,
    r'slide_swin_t_imagenet|slide_cswin_t_imagenet': 0.2,
    r'slide_swin_s_imagenet': 0.3,
    r'slide_cswin_s_imagenet': 0.4,
    r'slide_(swin|cswin)_b_imagenet': 0.5,
    r'maskrcnn_slide_pvt_m_coco': 0.0,
    r'cascademaskrcnn_slide_swin_b_3x_coco': 0.3,
    r'(mask|cascademask)rcnn_slide_swin_[ts]_3x_coco': 0.2,
    r'maskrcnn_slide_cswin_t_3x_coco': 0.2,
    r'maskrcnn_slide_cswin_s_3x_coco': 0.3,
    r'maskrcnn_slide_cswin_b_3x_coco': 0.5,
    r'upernet_slide_cswin_b_ade20k': 0.5,
    r'upernet_slide_c?swin_[ts]_ade20k': 0.3,
}
SWIN_DENSE = exempt(called_norm, TABLE, 'position')
DECAY = {
    'slide_swin_t_imagenet': (0.05, exempt(flat, TABLE)),
    'slide_pvt_t_imagenet': (0.05, exempt(flat, TABLE)),
    'slide_pvtv2_b1_imagenet': (0.05, exempt(flat, TABLE)),
    'slide_cswin_t_imagenet': (0.05, exempt(flat, TABLE)),
    'slide_cswin_b_imagenet': (0.1, exempt(flat, TABLE)),
    'maskrcnn_slide_pvt_t_coco': (1e-4, nothing),
    'semanticfpn_slide_pvt_t_ade20k': (1e-4, nothing),
    'maskrcnn_slide_swin_t_3x_coco': (0.05, SWIN_DENSE),
    'cascademaskrcnn_slide_swin_t_3x_coco': (0.05, SWIN_DENSE),
    'maskrcnn_slide_cswin_t_3x_coco': (0.05, SWIN_DENSE),
    'upernet_slide_swin_t_ade20k': (0.01, SWIN_DENSE),
    'upernet_slide_cswin_t_ade20k': (0.01, SWIN_DENSE),
}
IMAGENET_RATES = {
    'slide_swin_t_imagenet': (20, 1e-6, 1e-3, 1e-5),
    'slide_swin_b_imagenet': (20, 5e-7, 5e-4, 5e-6),
    'slide_pvt_t_imagenet': (5, 2e-6, 1e-3, 2e-5),
    'slide_pvt_s_imagenet': (5, 1e-6, 5e-4, 1e-5),
    'slide_pvt_l_imagenet': (5, 5e-7, 2.5e-4, 5e-6),
    'slide_cswin_t_imagenet': (20, 2e-6, 1e-3, 2e-5),
}
