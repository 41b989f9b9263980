"""Sets of classes by name, made of one data set's labels: class -> the sheet's labels in it."""

from collections.abc import Mapping

CLASS_SETS: Mapping[str, Mapping[str, list[str]]] = {
    # CAMELYON-17. The challenge counts isolated tumour cells as no positive node
    # (camelyon17.grand-challenge.org/Evaluation); other work counts every tumour cell.
    "stages": {name: [name] for name in ("negative", "itc", "micro", "macro")},
    "metastasis": {"negative": ["negative"], "metastasis": ["itc", "micro", "macro"]},
    "metastasis_itc_negative": {
        "negative": ["negative", "itc"],
        "metastasis": ["micro", "macro"],
    },
    "macro": {"no_macro": ["negative", "itc", "micro"], "macro": ["macro"]},
    # BRACS (Brancati et al. 2022, doi 10.1093/database/baac093): seven lesions, three groups.
    "bracs_7": {name: [name] for name in ("N", "PB", "UDH", "FEA", "ADH", "DCIS", "IC")},
    "bracs_3": {
        "benign": ["N", "PB", "UDH"],
        "atypical": ["FEA", "ADH"],
        "malignant": ["DCIS", "IC"],
    },
}
