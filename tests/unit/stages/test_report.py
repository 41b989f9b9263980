import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from wsi_ncmi import config
from wsi_ncmi.errors import UserError
from wsi_ncmi.report.task import Evaluated, _metric_table
from wsi_ncmi.stages import report


class Page(HTMLParser):
    """Words, addresses and headings of a page; fails on tags that do not close."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.words, self.ids = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.addresses += [attributes[k] for k in ("src", "href") if k in attributes]
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def make_report(cohort, configuration, rows):
    report.run(cohort, configuration, rows, cohort / "report/index.html")
    return (cohort / "report/index.html").read_text()


@pytest.mark.parametrize("compares_arms", [True, False])
def test_an_experiment_begins_the_answer_and_arms_follow_where_they_are_rivals(
    evaluated, settings, compares_arms
):
    cohort, rows, _ = evaluated
    folder = cohort / "experiment"
    folder.mkdir()
    found = {"sentences": ["They correlate."], "tables": [], "figures": []}
    found |= {"experiment": "ncmi_vs_error", "compares_arms": compares_arms}
    (folder / "findings.json").write_text(json.dumps(found))
    asked = settings().model_copy(update={"experiment": config.Experiment(name="ncmi_vs_error")})
    text = Page(make_report(cohort, asked, rows)).text
    answer, rest = text.split(" Experiment: NCMI against error ")[-2:]
    assert "They correlate." in answer
    assert ("NCMI changes macro-F1 by" in answer) == compares_arms
    assert "Task stage" in rest


def test_the_page_says_everything_and_needs_nothing_else(evaluated, settings):
    cohort, rows, _ = evaluated
    text = make_report(cohort, settings(), rows)
    page = Page(text)
    inner = [a for a in page.addresses if a.startswith("#")]
    assert {a[1:] for a in inner} == set(page.ids)
    viewer = "http://127.0.0.1:8484/#slide="  # where names of slides lead; nothing is loaded there
    data = [a for a in page.addresses if not a.startswith(("#", viewer))]
    assert all(re.match(r"data:image/(png|jpeg|webp);base64,", a) for a in data)
    assert len(data) == 7 + 4 + 2 * 2 * 2  # figures, overlays, heatmaps and strips
    assert not re.search(r"url\(|@import|<script|https?://", text.replace(viewer, ""))
    assert len(re.findall(r"(?:NCMI|cross-entropy)(?: \d\.\d{3} → \d\.\d{3}){6} ", page.text)) == 4
    for words in (
        "Does training under NCMI change macro-F1 against cross-entropy?",
        "against cross-entropy with ABMIL",
        "the smallest true difference that such data would have shown with 80 % probability is",
        "CMI, Γ and NCMI of the predictions on the test part",
        "On synthetic slides and with untuned arms, NCMI changes macro-F1 by",
        "ABMIL cross-entropy 0.003 20 ",
        "No epoch was chosen: the last one is scored.",
        "all folds and seeds, before → after the temperature that is fitted on validation",
        "No arm was tuned by a search of this workflow",
        "Class negative is missing from the validation part of 2 of 2 fold(s) (0, 1)",
        "They describe the predictions and rank no arm",
        "24 models: 4 arms × 2 folds × 3 seeds, protocol kfold",
        "accuracy (= micro-F1)",
        "ABMIL NCMI last epoch 6 19.0 19 to 19 20.0",
        "not on the test part: means over models",
        "a policy that chooses by the part that judges it looks better than it is",
        "cannot be read: not a TIFF file",
        "openslide.mpp-x (8), tiff.ResolutionUnit",
        "native 12 1.00 67 1.0521",
        "openslide a slide of vendor hamamatsu",
        "OpenSlide interpolates, which blurs",
        "slide_04 2.00% of it cannot be decoded; the mask is odd",
        "their finished results stand. slide why slide_05 slide_05.tif: no such file",
        "1 tiles of 1 slides could not be decoded",
        "it was never trained",
        "AUROC of attention against the lesion 0.870",
        "seed 0 of each fold",
        "centre patients slides negative itc micro macro",
    ):
        assert words in page.text, words


def test_notes_on_annotations_are_stated(evaluated, settings):
    cohort, rows, _ = evaluated
    notes = cohort / "runs/stage/attention/annotation_notes.tsv"
    notes.write_text("slide_id\tnote\nslide_03\tx.xml: no such file: the annotation is not used\n")
    page = Page(make_report(cohort, settings(), rows))
    assert "Notes on the annotations. slide note slide_03 x.xml: no such file" in page.text
    shutil.rmtree(cohort / "runs/stage/attention/heatmaps")
    (cohort / "runs/stage/attention/lesion_auroc.tsv").unlink()
    assert "x.xml: no such file" in Page(make_report(cohort, settings(), rows)).text
    notes.write_text("slide_id\tnote\n")
    assert "Notes on the annotations" not in Page(make_report(cohort, settings(), rows)).text


SEARCHED = """\
chosen	task	arm	options	training	status	macro_f1	aggregator	fold	seed
no	stage	ncmi	{}	{learning_rate: 0.001}	ok	0.5	abmil	0	0
yes	stage	ncmi	{}	{learning_rate: 0.003}	ok	0.6	abmil	0	0
"""


def test_a_tuned_arm_beside_an_untuned_reference_is_flagged(evaluated, settings):
    cohort, rows, _ = evaluated
    (cohort / "search").mkdir()
    (cohort / "search/search.tsv").write_text(SEARCHED)
    page = Page(make_report(cohort, settings(), rows))
    for words in (
        "On synthetic slides and with NCMI chosen among 2 settings and cross-entropy untuned, NCMI",
        "Not tuned alike: NCMI was chosen among 2 settings, the reference cross-entropy was not",
        "2; learning_rate 0.003 on validation of fold 0, seed 0, ABMIL",
        "The settings of NCMI were chosen on the validation part of fold 0. 28 of the 28 samples "
        "that this search trained on and validated on are test samples of other folds",
    ):
        assert words in page.text, words
    assert "othing was chosen" not in page.text
    both = SEARCHED + SEARCHED.split("\n", 1)[1].replace("ncmi", "cross_entropy")
    (cohort / "search/search.tsv").write_text(both)
    page = Page(make_report(cohort, settings(), rows))
    assert "with each arm chosen among 2 settings, NCMI changes" in page.text
    assert "Not tuned alike" not in page.text


def test_a_chosen_setting_that_was_not_trained_with_is_no_tuning(evaluated, settings):
    cohort, rows, _ = evaluated
    (cohort / "search").mkdir()
    (cohort / "search/search.tsv").write_text(SEARCHED.replace("0.003", "0.01"))
    page = Page(make_report(cohort, settings(), rows))
    assert "2; trained with others than the chosen learning_rate 0.01" in page.text
    assert "with untuned arms" in page.text


def test_settings_that_are_not_recorded_are_not_claimed(fabricate, evaluation, settings):
    cohort, rows, index = fabricate()
    for path in (cohort / "runs/stage").glob("*/run.json"):
        path.unlink()
    evaluation(cohort, index)
    page = Page(make_report(cohort, settings(), rows))
    assert "How the scored epochs were chosen is not recorded for every arm." in page.text
    assert "ABMIL cross-entropy – – " in page.text


def test_the_main_table_fits_1280_pixels(evaluated):
    """Of 1,240 beside the margins: 21 a column for its padding, 8 a character at most."""
    block = _metric_table(Evaluated.read(evaluated[0] / "runs/stage"))
    lines = [
        max(len(line) for cell in column for line in cell.split("\n"))
        for column in zip(block.header, *block.rows, strict=True)
    ]
    assert len(block.header) == 10  # the kappa of an ordinal task too
    assert sum(21 + 8 * width for width in lines) <= 1240


def test_the_report_is_deterministic(evaluated, settings):
    cohort, rows, _ = evaluated
    first = make_report(cohort, settings(), rows)
    shutil.rmtree(cohort / "report")
    report.run(cohort, settings(), rows, cohort / "report/index.html")
    assert (cohort / "report/index.html").read_text() == first


def test_text_of_the_user_is_escaped(evaluated, settings):
    cohort, rows, _ = evaluated
    text = make_report(cohort, settings(question="Is a < b & <b>c</b>?"), rows)
    assert "Is a &lt; b &amp; &lt;b&gt;c&lt;/b&gt;?" in text


def test_bags_without_slides(evaluated, settings):
    cohort, rows, _ = evaluated
    shutil.rmtree(cohort / "tiles")
    shutil.rmtree(cohort / "features")
    facts = {"name": "demo", "description": "bags imported from bags.h5 (packed)"}
    (cohort / "cache/demo/encoder.json").write_text(json.dumps(facts))
    source = {"path": "bags.h5", "sheet": "sheet.tsv", "name": "demo"}
    page = Page(make_report(cohort, settings(demo=None, bags=source), rows))
    assert "instances: median (range)" in page.text
    assert "bags imported from bags.h5 (packed)" in page.text
    assert "no tissue: 0.1 % of the slide" in page.text
    assert "scale error" not in page.text


def test_images_without_a_cohort(fabricate, evaluation):
    cohort, _, _ = fabricate(arms=[("resnet18", "cross_entropy"), ("resnet18", "ncmi")])
    task = {"dataset": "fashion_mnist", "path": "images"}
    evaluation(cohort, None)
    configuration = config.parse(
        {"cohort": "demo", "images": {"stage": task}, "evaluation": {"bootstrap": 200}}
    )
    page = Page(make_report(cohort, configuration, []))
    assert "Task stage: samples by part and class." in page.text
    assert "against cross-entropy with resnet18" in page.text
    assert "Failed slides" not in page.text


def test_one_objective_is_reported_without_a_comparison(fabricate, evaluation, settings):
    cohort, rows, index = fabricate(arms=[("abmil", "cross_entropy")])
    evaluation(cohort, index)
    page = Page(make_report(cohort, settings(), rows))
    assert "no second objective was trained, so nothing is compared" in page.text
    assert "Paired differences" not in page.text


def test_a_task_that_was_not_evaluated_is_named(fabricate, settings):
    cohort, rows, _ = fabricate()
    with pytest.raises(UserError, match=r"task stage: .* has no evaluation/summary\.json"):
        report.run(cohort, settings(), rows, cohort / "report/index.html")
