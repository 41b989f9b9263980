"""Mean features of slides, and slides that are one under several names."""

import numpy as np
import pandas as pd

from wsi_ncmi.bags.means import slide_means, without_twins


def write(folder, bags, same_as=None):
    features = np.concatenate([*bags.values()])
    np.save(folder / "features.npy", features)
    np.save(folder / "coords.npy", np.zeros((len(features), 2), np.int32))
    counts = [len(bag) for bag in bags.values()]
    index = pd.DataFrame(
        {"slide_id": [*bags], "status": "ok", "reason": "", "digest": "d", "count": counts}
    )
    index["offset"] = np.cumsum([0, *counts[:-1]])
    index["same_as"] = [(same_as or {}).get(slide, "") for slide in bags]
    index.to_csv(folder / "index.tsv", sep="\t", index=False)
    return folder / "index.tsv"


def test_means_are_those_of_each_bag(tmp_path):
    rng = np.random.default_rng(0)
    bags = {f"s{i}": rng.normal(5, 1, (n, 8)).astype(np.float16) for i, n in enumerate([3, 1, 700])}
    write(tmp_path, bags)
    found = slide_means(tmp_path, ["s2", "s0"])
    expected = [bags[slide].astype(np.float64).mean(axis=0) for slide in ("s2", "s0")]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_of_twins_the_first_stays(tmp_path):
    bags = {slide: np.ones((2, 4), np.float16) for slide in "abcd"}
    index = write(tmp_path, bags, {"b": "a", "d": "a"})
    kept = without_twins(pd.DataFrame({"slide_id": ["d", "c", "b"]}), index)
    assert kept["slide_id"].tolist() == ["d", "c"]
    kept = without_twins(pd.DataFrame({"slide_id": ["a", "b", "c"]}), index)
    assert kept["slide_id"].tolist() == ["a", "c"]
