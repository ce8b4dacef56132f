"""Networks: a timm backbone, a head that makes one logit a label of its feature map, a loss that skips unknown labels.

    losses/      LOSSES: what is minimised
    heads/       HEADS: feature map -> logits
    backbone.py  the only import of timm
    model.py     Tagger = backbone + head; saved as safetensors + JSON
    cost.py      multiply-accumulates and parameters

Axes letters: N or B images, C labels, F channels of the feature map, H W its positions or pixels, D any inner width.
"""
