from __future__ import annotations

import numpy as np

from tasks.review.guidelines import Example, Examples, Guideline, choose_examples, page_name, render_guidelines

IDS = ["a", "b", "c", "d", "e", "f"]
TARGETS = np.asarray([1, 1, 0, 0, 1, 0], np.uint8)
KNOWN = np.asarray([True, True, True, True, True, False])
SCORES = np.asarray([0.9, 0.99, 0.01, 0.45, 0.3, 0.5])


def row(image_id: str, verdict: str, who: str = "Ada") -> dict:
    return {"image_id": image_id, "verdict": verdict, "who": who}


def chosen(*verdicts: dict, most: int = 3) -> dict[str, list[str]]:
    examples = choose_examples(IDS, TARGETS, KNOWN, SCORES, verdicts, most=most)
    return {
        kind: [example.image_id for example in getattr(examples, kind)]
        for kind in ("sure_present", "sure_absent", "hard")
    }


def test_without_verdicts_the_surest_known_pairs_are_shown():
    assert chosen() == {"sure_present": ["b", "a"], "sure_absent": ["c", "d"], "hard": ["d", "e"]}


def test_a_label_of_which_the_model_is_never_sure_still_has_examples():
    examples = choose_examples(IDS, TARGETS, KNOWN, SCORES / 4, [], most=2)
    assert [example.image_id for example in examples.sure_present] == ["b", "a"]


def test_absent_pictures_that_could_be_mistaken_come_before_those_of_something_else():
    scores = np.asarray([0.9, 0.99, 0.0, 0.2, 0.3, 0.5])
    examples = choose_examples(IDS, TARGETS, KNOWN, scores, [], most=1)
    assert [example.image_id for example in examples.sure_absent] == ["d"]


def test_an_unknown_pair_is_never_an_example_by_its_score():
    assert all("f" not in examples for examples in chosen().values())


def test_what_people_said_comes_first():
    examples = chosen(row("f", "absent"), row("a", "present"))
    assert examples["sure_absent"][0] == "f"
    assert examples["sure_present"] == ["a", "b"]


def test_people_who_differ_or_are_unsure_make_a_hard_case():
    examples = chosen(row("a", "present"), row("a", "absent", who="Bob"), row("c", "unsure"))
    assert examples["hard"][:2] == ["a", "c"]
    assert "a" not in examples["sure_present"] + examples["sure_absent"]


def test_people_against_the_model_are_sure_and_hard():
    examples = chosen(row("b", "absent"))
    assert examples["sure_absent"][0] == examples["hard"][0] == "b"


def test_there_are_never_more_pictures_than_asked_for():
    assert chosen(*[row(image_id, "present") for image_id in IDS], most=2)["sure_present"] == ["a", "b"]


def guideline(label: str, name: str, **examples: list[Example]) -> Guideline:
    return Guideline(label, name, "", ["Animal"], [], ["Dog"], {"coco": ["cat"]}, Examples(**examples))


def test_a_page_holds_the_relations_and_the_pictures():
    cat = guideline("cat", "Cat", sure_present=[Example("a", "Ada: present")], hard=[Example("no picture", "")])
    pages = render_guidelines([cat], {"a": "data:image/jpeg;base64,AA=="})
    page = pages["001-cat.html"]
    for text in (
        "Cat: is it on the image?",
        "Animal",
        "Never together with",
        "data:image/jpeg;base64,AA==",
        "Ada: present",
    ):
        assert text in page
    assert "no picture" not in page


def test_every_page_is_listed():
    pages = render_guidelines([guideline("cat", "Cat"), guideline("犬/x", "犬")], {})
    assert set(pages) == {"index.html", "001-cat.html", "002-犬-x.html"}
    assert "002-%E7%8A%AC-x.html" in pages["index.html"]


def test_names_from_the_data_are_escaped():
    page = render_guidelines([guideline("<b>", "<script>alert(1)</script>")], {})
    assert not any("<script>" in html for html in page.values())


def test_names_that_look_alike_on_disk_have_pages_of_their_own():
    assert len({page_name(number, label) for number, label in enumerate(("a b", "a/b", "A b"))}) == 3
