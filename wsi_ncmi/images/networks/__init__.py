"""Networks for images that timm does not have: one file each, `Options` and `build(options)`.

`build` gives a module that embeds as timm's do: `forward_features(images [B, 3, h, w])` is a map,
`forward_head` of it the embedding [B, m]. Importing this package does not import torch.
"""

# Modules that are no networks (see `wsi_ncmi.registry`).
SHARED: frozenset[str] = frozenset()
