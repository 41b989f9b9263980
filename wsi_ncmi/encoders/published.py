"""The published pathology encoders: a row of facts each, with where every fact was read.

Plain data that loads no torch, so that planning can read it. `PathologyEncoder` says what the
fields are, `pathology.ADAPTERS` what the adapters do. One more encoder of a known kind is one more
row.
"""

from wsi_ncmi.encoders.facts import IMAGENET_MEAN, IMAGENET_STD, PathologyEncoder

# Lines of a row: name; what it is; its network; what goes in; what comes out; weights; sources.
# fmt: off
_ROWS = (
    PathologyEncoder(
        name="uni", title="UNI",
        about="ViT-L/16 by DINOv2 on 100 million tiles of 100,000 H&E slides (Chen et al. 2024).",
        architecture="vit_large_patch16_224", arguments={"img_size": 224, "init_values": 1e-5},
        input_px=224, tile_px=256, mpp=(0.5,), mean=IMAGENET_MEAN, std=IMAGENET_STD,
        pooling="class", dim=1024, parameters_m=303.4,
        licence="CC-BY-NC-ND-4.0", gated=True,
        repository="MahmoodLab/UNI", filename="pytorch_model.bin",
        sources=(
            "network, mean, std, licence, access: README of github.com/mahmoodlab/UNI",
            "256 px at 20x: doi.org/10.1038/s41591-024-02857-3, and the authors' "
            "github.com/mahmoodlab/TRIDENT",
            "parameters: model registry of github.com/rendeirolab/LazySlide",
        ),
    ),
    PathologyEncoder(
        name="uni2_h", title="UNI2-h",
        about="ViT-H/14 with eight registers, on 200 million H&E and IHC tiles (Mahmood Lab 2025).",
        architecture="vit_giant_patch14_224",
        arguments={
            "img_size": 224, "patch_size": 14, "depth": 24, "num_heads": 24, "init_values": 1e-5,
            "embed_dim": 1536, "mlp_ratio": 2.66667 * 2, "no_embed_class": True,
            "mlp_layer": "swiglu_packed", "act_layer": "silu", "reg_tokens": 8,
        },
        input_px=224, tile_px=256, mpp=(0.5,), mean=IMAGENET_MEAN, std=IMAGENET_STD,
        pooling="class", dim=1536, parameters_m=681.4,
        licence="CC-BY-NC-ND-4.0", gated=True,
        repository="MahmoodLab/UNI2-h", filename="pytorch_model.bin",
        sources=(
            "network, mean, std, licence, access, file: README of github.com/mahmoodlab/UNI",
            "256 px at 20x: README of github.com/mahmoodlab/TRIDENT, by the same authors",
            "parameters: model registry of github.com/rendeirolab/LazySlide",
        ),
        unverified="how the training tiles were cut is not published; 0.5 µm/px is the authors' "
        "use",
    ),
    PathologyEncoder(
        name="conch_v1_5", title="CONCH v1.5 (vision tower)",
        about="ViT-L/16 at 448 px with attentional pooling (Ding et al. 2024, TITAN). The tower "
        "ends in a query that attends to all tokens, as in CoCa (Yu et al. 2022, arXiv:2205.01917)."
        " The network is written anew from that description; only the names follow the published "
        "weights.",
        adapter="attention_pool", architecture="vit_large_patch16_224",
        arguments={"img_size": 448, "init_values": 1.0, "global_pool": ""},
        input_px=448, tile_px=512, mpp=(0.5,), mean=IMAGENET_MEAN, std=IMAGENET_STD,
        pooling="attention", dim=768, parameters_m=None,
        licence="CC-BY-NC-ND-4.0", gated=True,
        repository="MahmoodLab/conchv1_5", filename="pytorch_model_vision.bin",
        sources=(
            "licence, access: README of github.com/mahmoodlab/TITAN; arxiv.org/abs/2411.19666",
            "network, mean, std, file, 512 px at 20x: conchv1_5 and README of "
            "github.com/mahmoodlab/TRIDENT, by the same authors",
        ),
        unverified="the grid that the position embedding is stored on: 14 × 14 and 28 × 28 both "
        "load",
    ),
    PathologyEncoder(
        name="virchow2", title="Virchow2",
        about="ViT-H/14 with four registers, on 3.1 million slides (Zimmermann et al. 2024).",
        architecture="vit_huge_patch14_224",
        arguments={
            "img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, "reg_tokens": 4,
            "mlp_layer": "swiglu_packed", "act_layer": "silu",
        },
        input_px=224, tile_px=224, mpp=(0.25, 0.5, 1.0, 2.0), mean=IMAGENET_MEAN, std=IMAGENET_STD,
        pooling="class_mean", dim=2560, parameters_m=631.2,
        licence="CC-BY-NC-ND-4.0", gated=True,
        repository="paige-ai/Virchow2", filename="pytorch_model.bin",
        sources=(
            "magnifications 40x, 20x, 10x and 5x, network: arxiv.org/abs/2408.00738",
            "arguments, pooling, tile: patch encoders and README of github.com/mahmoodlab/TRIDENT; "
            "github.com/clemsgrs/slide2vec has the same pooling",
            "licence: the hub's page; parameters: model registry of "
            "github.com/rendeirolab/LazySlide",
        ),
        unverified="the model card itself; µm/px are the magnifications by the usual 20x = "
        "0.5 µm/px",
    ),
    PathologyEncoder(
        name="h_optimus_0", title="H-optimus-0",
        about="ViT-g/14 with four registers, on 500,000 H&E slides (Bioptimus 2024).",
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={"img_size": 224, "init_values": 1e-5, "global_pool": "token"},
        input_px=224, tile_px=224, mpp=(0.5,),
        mean=(0.707223, 0.578729, 0.703617), std=(0.211883, 0.230117, 0.177517),
        pooling="class", dim=1536, parameters_m=1130.0, precision="fp16",
        licence="Apache-2.0", gated=True,
        repository="bioptimus/H-optimus-0", filename="pytorch_model.bin",
        sources=(
            "network, mean, std, µm/px, precision: h-optimus/v0 of github.com/bioptimus/releases",
            "licence, µm/px, arguments: the model card at the hub",
            "access: README of github.com/mahmoodlab/TRIDENT",
            "parameters: 1.1 billion by the model card; 1,130 million by the registry of "
            "github.com/rendeirolab/LazySlide",
        ),
        unverified="whether it is gated: TRIDENT says so, LazySlide says not",
    ),
    PathologyEncoder(
        name="h_optimus_1", title="H-optimus-1",
        about="The network of H-optimus-0, on a million H&E slides (Bioptimus 2025).",
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={"img_size": 224, "init_values": 1e-5, "global_pool": "token"},
        input_px=224, tile_px=224, mpp=(0.5,),
        mean=(0.707223, 0.578729, 0.703617), std=(0.211883, 0.230117, 0.177517),
        pooling="class", dim=1536, parameters_m=1130.0,
        licence="CC-BY-NC-ND-4.0", gated=True,
        repository="bioptimus/H-optimus-1", filename="pytorch_model.bin",
        sources=(
            "network, mean, std, file: patch encoders of github.com/mahmoodlab/TRIDENT, as "
            "H-optimus-0",
            "tile, licence, access: README of github.com/mahmoodlab/TRIDENT",
            "parameters: model registry of github.com/rendeirolab/LazySlide",
        ),
        unverified="the model card itself; 0.5 µm/px is TRIDENT's 20x and H-optimus-0's",
    ),
    PathologyEncoder(
        name="prov_gigapath", title="Prov-GigaPath (tile encoder)",
        about="ViT-g/16 on 1.3 billion tiles of 171,000 slides (Xu et al. 2024). Its authors cut "
        "tiles of 256 px and feed the central 224 px. Here the whole tile is fed: cut tiles of "
        "224 px to give it the scale that it was trained on.",
        architecture="vit_giant_patch14_dinov2",
        arguments={
            "img_size": 224, "patch_size": 16, "embed_dim": 1536, "depth": 40, "num_heads": 24,
            "mlp_ratio": 5.33334, "global_pool": "token",
        },
        input_px=224, tile_px=224, mpp=(0.5,), mean=IMAGENET_MEAN, std=IMAGENET_STD,
        pooling="class", dim=1536, parameters_m=1130.0, precision="fp16",
        licence="Apache-2.0, with the terms of its page: research only", gated=True,
        repository="prov-gigapath/prov-gigapath", filename="pytorch_model.bin",
        sources=(
            "crop, mean, std, precision, access: README and pipeline of "
            "github.com/prov-gigapath/prov-gigapath",
            "256 px at 0.5 µm/px: doi.org/10.1038/s41586-024-07441-w",
            "arguments, licence: patch encoders and README of github.com/mahmoodlab/TRIDENT",
            "parameters: model registry of github.com/rendeirolab/LazySlide",
        ),
    ),
    PathologyEncoder(
        name="phikon_v2", title="Phikon-v2",
        about="ViT-L/16 by DINOv2 on 456 million tiles of public slides (Filiot et al. 2024). "
        "Published under the transformers library's names; they are renamed to timm's.",
        adapter="dinov2", architecture="vit_large_patch16_224",
        arguments={"img_size": 224, "init_values": 1.0},
        input_px=224, tile_px=224, mpp=(0.5,), mean=IMAGENET_MEAN, std=IMAGENET_STD,
        pooling="class", dim=1024, parameters_m=303.4,
        licence="Owkin non-commercial licence", gated=False,
        repository="owkin/phikon-v2", filename="model.safetensors",
        sources=(
            "network, tile, µm/px: arxiv.org/abs/2409.09173",
            "licence, file: the model card and files at the hub",
            "mean, std, pooling, access: patch encoders and README of "
            "github.com/mahmoodlab/TRIDENT",
            "parameters: model registry of github.com/rendeirolab/LazySlide",
        ),
        unverified="the names inside the file, taken to be the transformers library's "
        "Dinov2Model's",
    ),
    PathologyEncoder(
        name="hibou_b", title="Hibou-B",
        about="ViT-B/14 with four registers and SwiGLU, on a million slides (Nechaev et al. 2024). "
        "Published under the transformers library's names (and, of its authors' repository, "
        "DINOv2's own); they are renamed to timm's.",
        adapter="dinov2", architecture="vit_base_patch14_reg4_dinov2",
        arguments={
            "img_size": 224, "mlp_ratio": 4096 / 768, "mlp_layer": "swiglu_packed",
            "act_layer": "silu", "global_pool": "token",
        },
        input_px=224, tile_px=224, mpp=(0.5,),
        mean=(0.7068, 0.5755, 0.722), std=(0.195, 0.2316, 0.1816),
        pooling="class", dim=768, parameters_m=85.7,
        licence="Apache-2.0", gated=True,
        repository="histai/hibou-b", filename="model.safetensors",
        sources=(
            "network: hibou/models of github.com/HistAI/hibou; licence: its README and the model "
            "card",
            "mean, std, pooling: github.com/rendeirolab/LazySlide and "
            "github.com/clemsgrs/slide2vec",
            "µm/px: github.com/clemsgrs/slide2vec; access, parameters: registry of LazySlide",
        ),
        unverified="whether it is gated; µm/px by its authors; the names inside the hub's file, "
        "taken to be those of the transformers library's Dinov2WithRegistersModel",
    ),
    PathologyEncoder(
        name="hibou_l", title="Hibou-L",
        about="ViT-L/14 with four registers and SwiGLU, on 1.2 billion tiles (Nechaev et al. 2024)."
        " Published under the transformers library's names (and, of its authors' repository, "
        "DINOv2's own); they are renamed to timm's.",
        adapter="dinov2", architecture="vit_large_patch14_reg4_dinov2",
        arguments={
            "img_size": 224, "mlp_ratio": 5472 / 1024, "mlp_layer": "swiglu_packed",
            "act_layer": "silu", "global_pool": "token",
        },
        input_px=224, tile_px=224, mpp=(0.5,),
        mean=(0.7068, 0.5755, 0.722), std=(0.195, 0.2316, 0.1816),
        pooling="class", dim=1024, parameters_m=303.7,
        licence="Apache-2.0", gated=True,
        repository="histai/hibou-L", filename="model.safetensors",
        sources=(
            "network: hibou/models of github.com/HistAI/hibou; licence: its README and the model "
            "card",
            "mean, std, pooling: github.com/rendeirolab/LazySlide and "
            "github.com/clemsgrs/slide2vec",
            "µm/px: github.com/clemsgrs/slide2vec; access, parameters: registry of LazySlide",
        ),
        unverified="µm/px by its authors; the names inside the hub's file, taken to be those of "
        "the transformers library's Dinov2WithRegistersModel",
    ),
    PathologyEncoder(
        name="ctranspath", title="CTransPath",
        about="Swin-T with a convolutional stem, on TCGA and PAIP (Wang et al. 2022). Its authors "
        "publish the weights outside any hub, under GPL-3.0. Nothing of theirs is in this package: "
        "the stem is written anew from the paper's description, so that only whoever takes the "
        "weights is bound by their licence. It asks for tiles of 1 µm/px, unlike most.",
        adapter="conv_stem", architecture="swin_tiny_patch4_window7_224",
        arguments={"img_size": 224},
        input_px=224, tile_px=224, mpp=(1.0,), mean=IMAGENET_MEAN, std=IMAGENET_STD,
        pooling="mean", dim=768, parameters_m=27.5,
        licence="GPL-3.0", gated=False,
        elsewhere="https://github.com/Xiyue-Wang/TransPath", filename="ctranspath.pth",
        sources=(
            "network, mean, std, 1.0 µm/px first, weights: github.com/Xiyue-Wang/TransPath and "
            "doi.org/10.1016/j.media.2022.102559",
            "licence: cards of the copies kaczmarj/CTransPath (which adds: for non-commercial "
            "academic purposes) and jamesdolezal/CTransPath",
            "parameters: model registry of github.com/rendeirolab/LazySlide",
        ),
    ),
)
# fmt: on

PUBLISHED = {row.name: row for row in _ROWS}
"""The rows by name."""
