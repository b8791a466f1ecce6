"""What holds for every config that no family says otherwise of; see the files beside this one."""

#: Images of one process, of all processes, and the learning rate for these.
BATCHES = {
    r'.+_imagenet': (128, 1024, 1e-3),
    r'.+_coco': (2, 16, 1e-4),
    r'.+_ade20k': (2, 16, 6e-5),
}
#: Drop path of the last block.
DROP_PATH = {r'.+_(imagenet|coco|ade20k)': 0.1}
#: Mean and standard deviation of the images that the backbone has learned from.
NORMALISATION = {r'.+': ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])}
#: Alpha of MixUp, sampler of training, and short edge of a test image, on ImageNet.
MIXUP = {r'.+': 0.8}
SAMPLER = {r'.+': 'DefaultSampler'}
TEST_EDGE = {r'.+': 256}
#: Weight decay, and the rule of what is exempt from it, by name of a config.
DECAY = {}
#: Epochs of warm-up, and rate of the first iteration, of the peak and of the end, by name.
IMAGENET_RATES = {}
