"""taxonomy.yaml: what it says, what follows from it, and what it may not say."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import TaxonomyError
from tasks.taxonomy.drafts import draft_taxonomy
from tasks.taxonomy.reading import parse_taxonomy, read_taxonomy
from tests.taxonomy.kits import open_images

FOREST = {
    "labels": [
        {"id": "forest", "implies": ["tree"], "from": {"coco": ["woods", "jungle"]}},
        {"id": "tree", "name": "Tree", "implies": ["plant"], "from": {"coco": ["tree"]}},
        {"id": "plant"},
        {"id": "day", "group": "light"},
        {"id": "night", "group": "light"},
        {"id": "indoor", "excludes": ["plant"]},
    ],
    "drop": {"coco": {"shadow": "no object"}},
}


def with_labels(*labels: dict, **rest: object) -> dict:
    return {"labels": list(labels), **rest}


def test_labels_keep_the_order_of_the_file():
    assert parse_taxonomy(FOREST).ids == ["forest", "tree", "plant", "day", "night", "indoor"]


def test_the_display_name_is_the_id_when_none_is_given():
    taxonomy = parse_taxonomy(FOREST)
    assert (taxonomy["tree"].display_name, taxonomy["forest"].display_name) == ("Tree", "forest")


def test_ancestors_and_descendants_are_the_transitive_closure():
    taxonomy = parse_taxonomy(FOREST)
    assert taxonomy.ancestors["forest"] == {"tree", "plant"}
    assert taxonomy.descendants["plant"] == {"tree", "forest"}
    assert taxonomy.children["plant"] == ("tree",)
    assert taxonomy.implications == ((0, 1), (0, 2), (1, 2))


def test_a_label_may_have_two_parents():
    labels = (
        {"id": "a", "implies": ["b", "c"]},
        {"id": "b", "implies": ["d"]},
        {"id": "c", "implies": ["d"]},
        {"id": "d"},
    )
    assert parse_taxonomy(with_labels(*labels)).ancestors["a"] == {"b", "c", "d"}


def test_a_group_makes_its_labels_exclude_each_other():
    taxonomy = parse_taxonomy(FOREST)
    assert taxonomy.exclusive_groups == [[3, 4]]
    assert ("day", "night") in taxonomy.declared_exclusions


def test_what_excludes_a_label_excludes_its_descendants():
    assert {("forest", "indoor"), ("tree", "indoor"), ("plant", "indoor")} <= parse_taxonomy(FOREST).exclusions


def test_a_class_that_maps_to_a_label_and_its_parent_is_not_ambiguous():
    labels = (
        {"id": "tree", "from": {"v": ["tree", "wood"]}},
        {"id": "forest", "implies": ["tree"], "from": {"v": ["wood"]}},
        {"id": "coffee", "from": {"v": ["coffee shop"]}},
        {"id": "shop", "from": {"v": ["coffee shop"]}},
    )
    assert parse_taxonomy(with_labels(*labels)).ambiguous("v") == {"coffee shop": ["coffee", "shop"]}


A, B = {"id": "a"}, {"id": "b"}
REFUSED = {
    "a circle": (
        with_labels({"id": "a", "implies": ["b"]}, {"id": "b", "implies": ["c"]}, {"id": "c", "implies": ["a"]}),
        "a -> b -> c -> a",
    ),
    "a label that implies itself": (with_labels({"id": "a", "implies": ["a"]}), "a -> a"),
    "an unknown parent": (
        with_labels({"id": "tree"}, {"id": "b", "implies": ["tre"]}),
        "'tre' is no label. Did you mean 'tree'?",
    ),
    "an unknown exclusion": (
        with_labels(A, {"id": "b", "excludes": ["x"]}),
        "'b': excludes: 'x' is no label. Known: a, b.",
    ),
    "an id twice": (with_labels(A, A), "label 'a' is defined twice"),
    "no labels": (with_labels(), "the list is empty"),
    "a misspelled key": (
        with_labels({"id": "a", "implise": []}),
        "label 'a'.implise: unknown key. Did you mean 'implies'?",
    ),
    "a number as id": (with_labels({"id": 7}), "label '7'.id: expected text, found 7. Put it in quotes"),
    "a number as source class": (
        with_labels({"id": "a", "from": {"v": [7]}}),
        "label 'a'.from.v.0: expected text, found 7",
    ),
    "text where a list belongs": (
        with_labels({"id": "a", "implies": "b"}),
        "label 'a'.implies: expected a list, found 'b'",
    ),
    "an empty id": (with_labels({"id": ""}), "is blank"),
    "a source class without a name": (
        with_labels({"id": "a", "from": {"coco": ["cat", " "]}}),
        "label 'a'.from.coco.1: is blank. Write a name, or take it out, found ' '",
    ),
    "a target above 1": (
        with_labels({"id": "a", "deliver": {"precision": 2, "recall": 0.5}}),
        "less than or equal to 1",
    ),
    "a list as file": (["a"], "expected a mapping with the key 'labels', found list"),
    "a label that excludes itself": (with_labels({"id": "a", "excludes": ["a"]}), "'a' excludes itself"),
    "a parent that is excluded": (with_labels({"id": "a", "implies": ["b"], "excludes": ["b"]}, B), "'a' implies both"),
    "a label under two that exclude each other": (
        with_labels({"id": "x", "implies": ["a", "b"]}, {"id": "a", "excludes": ["b"]}, B),
        "'a' and 'b' exclude each other, but 'x' implies both",
    ),
    "a class that maps to two exclusive labels": (
        with_labels({"id": "a", "excludes": ["b"], "from": {"v": ["n"]}}, {"id": "b", "from": {"v": ["n"]}}),
        "'n' maps to both 'a' and 'b', which exclude each other",
    ),
    "a class that is mapped and dropped": (
        with_labels({"id": "a", "from": {"v": ["n"]}}, drop={"v": {"n": "why"}}),
        "'n' also maps to label 'a'",
    ),
    "exhaustive children without children": (
        with_labels({"id": "a", "exhaustive_children": True}),
        "'a': exhaustive_children, but no label implies it",
    ),
    "the old name of a key": (
        with_labels({"id": "a", "closed": True}),
        "label 'a'.closed: this key is called `exhaustive_children` now. Rename it.",
    ),
    "a migration to nowhere": (
        with_labels(A, migrations=[{"rename": {"old": "b"}}]),
        "leads to 'b', which is no label",
    ),
    "a migration of two kinds": (
        with_labels(A, migrations=[{"rename": {"x": "a"}, "split": {"y": ["a"]}}]),
        "exactly one of rename, merge, split",
    ),
    "a retired id in use": (with_labels(A, B, migrations=[{"rename": {"a": "b"}}]), "label 'a' was retired"),
    "an id retired twice": (
        with_labels(A, B, migrations=[{"merge": {"a": ["x", "y"]}}, {"rename": {"x": "b"}}]),
        "step 2 retires 'x' a second time",
    ),
    "a merge into one of its parts": (with_labels(A, migrations=[{"merge": {"a": ["a", "x"]}}]), "brings back 'a'"),
    "an id that is a path": (with_labels({"id": "../../x"}), "leads to another folder"),
    "an id that a terminal obeys": (with_labels({"id": "a\x1b[2J"}), "U+001B"),
    "a retired id brought back": (
        with_labels(A, B, migrations=[{"rename": {"x": "a"}}, {"rename": {"b": "x"}}]),
        "brings back 'x'",
    ),
}


@pytest.mark.parametrize(("raw", "message"), REFUSED.values(), ids=REFUSED)
def test_a_taxonomy_is_refused_in_one_line_for(raw, message):
    with pytest.raises(TaxonomyError) as refused:
        parse_taxonomy(raw, where="data/taxonomy/taxonomy.yaml")
    text = str(refused.value)
    assert message in text
    assert text.startswith("data/taxonomy/taxonomy.yaml: ")
    assert "\n" not in text
    assert "{" not in text


FILES = {
    "missing.yaml": (None, "no such file"),
    "broken.yaml": ("labels: [", ":1: not valid YAML"),
    "twice.yaml": ("labels:\n  - id: a\n    id: b\n", ":3: not valid YAML (key 'id' is given twice)"),
    "control.yaml": ("labels: \x7f", "not valid YAML (unacceptable character #x007f"),
    "binary.yaml": (b"\xff\xfe\x00", "not UTF-8 text"),
    "empty.yaml": ("", "found NoneType"),
}


@pytest.mark.parametrize(("name", "content", "message"), [(n, c, m) for n, (c, m) in FILES.items()], ids=FILES)
def test_an_unusable_file_is_named_with_its_fault(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaxonomyError) as refused:
        read_taxonomy(tmp_path / name)
    assert name in str(refused.value)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_byte_order_mark_and_crlf_do_no_harm(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_bytes("\ufefflabels:\r\n  - id: “Ünï, 👍”\r\n  - id: a/x\r\n  - id: __proto__\r\n".encode())
    assert read_taxonomy(path).ids == ["“Ünï, 👍”", "a/x", "__proto__"]


def test_a_class_that_the_source_lacks_is_refused_with_the_nearest():
    with pytest.raises(
        TaxonomyError, match=r"label 'forest': 'woods' is no class of vocabulary 'coco'. Did you mean 'wood'?"
    ):
        parse_taxonomy(FOREST).check_sources({"coco": {"wood", "jungle", "tree", "shadow"}})
    with pytest.raises(TaxonomyError, match="drop: 'shadow' is no class"):
        parse_taxonomy(FOREST).check_sources({"coco": {"woods", "jungle", "tree"}})


def test_vocabularies_that_are_complete_or_not_given_are_accepted():
    parse_taxonomy(FOREST).check_sources({"coco": {"woods", "jungle", "tree", "shadow", "more"}})
    parse_taxonomy(FOREST).check_sources({})


@st.composite
def parents_of(draw) -> dict[int, set[int]]:
    """A random DAG: node -> parents, all with higher numbers."""
    num = draw(st.integers(1, 8))
    return {n: draw(st.sets(st.integers(n + 1, num - 1))) if n + 1 < num else set() for n in range(num)}


@given(parents_of())
def test_the_closure_of_implications_is_idempotent(parents):
    raw = with_labels(*({"id": str(n), "implies": [str(p) for p in above]} for n, above in parents.items()))
    once = parse_taxonomy(raw).ancestors
    complete = with_labels(*({"id": label, "implies": sorted(above)} for label, above in once.items()))
    assert parse_taxonomy(complete).ancestors == once


# ---------------------------------------------------------------- real and embedded vocabularies


def test_the_embedded_taxonomy_knows_every_class_of_the_embedded_data(root):
    from tasks.demo import digits

    taxonomy = read_taxonomy(root / "data" / "taxonomy" / "taxonomy.yaml")
    vendor = {name for names in digits.VENDOR_NAMES for name in names} | set(digits.VENDOR_NOISE)
    taxonomy.check_sources({"coco": set(digits.NAMES), "openimages": set(digits.MIDS), "vendor": vendor})
    for digit, name in enumerate(digits.NAMES):
        source_classes = taxonomy[name].source_classes
        assert source_classes["coco"] == (digits.NAMES[digit],)
        assert source_classes["openimages"] == (digits.MIDS[digit],)
        assert set(source_classes["vendor"]) == set(digits.VENDOR_NAMES[digit])
        assert taxonomy.ancestors[name] == {"odd" if digit % 2 else "even"}


def test_the_open_images_hierarchy_becomes_a_taxonomy_of_601_labels(real_data, tmp_path):
    parents, names = open_images(real_data)
    path = tmp_path / "taxonomy.yaml"
    path.write_text(draft_taxonomy(parents, names, "openimages"), encoding="utf-8")
    taxonomy = read_taxonomy(path)
    taxonomy.check_sources({"openimages": names.keys()})
    mid = {label.id: label.source_classes["openimages"][0] for label in taxonomy.labels}
    assert len(taxonomy.ids) == len(parents) - 1  # the root is always true and has no description
    assert {mid[a] for a in taxonomy.ancestors["apple"]} == {"/m/02xwb", "/m/02wbm"}  # fruit, food
    for label in taxonomy.labels:
        assert {mid[p] for p in label.implies} == parents[mid[label.id]] - {"/m/0bl9f"}


def test_a_draft_of_names_that_differ_in_signs_alone_is_a_taxonomy():
    names = {name: name for name in ("c", "c++", "c#", "☕", "🎈", " cup", "cup ", "Cup")}
    drafted = parse_taxonomy(yaml.safe_load(draft_taxonomy(dict.fromkeys(names, ()), names, "coco")))
    assert len(set(drafted.ids)) == len(names)


def test_a_draft_gives_equal_display_names_different_ids():
    drafted = yaml.safe_load(draft_taxonomy({"/m/1": set(), "/m/2": {"/m/1"}}, {"/m/1": "Bat", "/m/2": "bat "}, "oi"))
    assert drafted["labels"][1] == {"id": "bat_m2", "name": "bat", "implies": ["bat"], "from": {"oi": ["/m/2"]}}
