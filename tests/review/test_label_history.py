"""The chain behind each label of one image."""

from __future__ import annotations

import io

import pyarrow as pa
from rich.console import Console

from tasks.core.tables import CHANGES, COVERAGE, GROUPS
from tasks.mapping.mapping import map_rows
from tasks.review.label_history import NO_LABEL, Step, explain_image, render
from tasks.taxonomy.reading import parse_taxonomy
from tests.taxonomy.kits import label_rows, unknown_rows

TAXONOMY = parse_taxonomy(
    {
        "labels": [
            {"id": "forest", "implies": ["tree"], "from": {"v": ["woods"]}},
            {"id": "tree", "from": {"v": ["tree"]}},
            {"id": "dog", "from": {"v": ["dog"]}},
            {"id": "cat", "from": {"v": ["cat"]}},
            {"id": "sky"},
        ],
        "drop": {"v": {"shadow": "no object"}},
    }
)
RAW = label_rows(
    [("i", "woods", 1, 0.5, "box"), ("i", "shadow", 1), ("i", "ghost", 1), ("j", "cat", 1), ("j", "dog", 1)]
)
OPEN = unknown_rows([("i", "dog")])
MAPPED = map_rows(RAW, TAXONOMY, "v", unknown=OPEN)
TABLES = {
    "ingested.labels": RAW,
    "ingested.unknown": OPEN,
    "mapped.labels": MAPPED.labels,
    "mapped.unknown": MAPPED.unknown,
    "mapped.coverage": pa.Table.from_pylist(
        [{"source": "s", "label": label} for label in ("forest", "dog", "cat")] + [{"source": "t", "label": "sky"}],
        schema=COVERAGE,
    ),
}


def history(more: dict[str, pa.Table] | None = None) -> dict[str, list[tuple]]:
    """label -> (stage, state, text) of each step."""
    steps: dict[str, list[tuple]] = {}
    for step in explain_image("i", TABLES | (more or {}), TAXONOMY, source="s", vocabulary="v"):
        steps.setdefault(step.label, []).append((step.stage, step.state, step.text))
    return steps


def test_a_mapped_label_names_the_source_s_row_behind_it():
    assert history()["forest"] == [
        ("ingest", 1, "'woods' present (box, 0.50)"),
        ("map_labels", 1, "as the source says (box, 0.50)"),
    ]


def test_an_implied_label_names_what_implies_it():
    assert history()["tree"] == [("map_labels", 1, "rule:implies: forest present")]


def test_a_pair_left_open_differs_from_one_absent_by_coverage_and_one_never_mentioned():
    steps = history()
    assert steps["dog"] == [("ingest", -1, "'dog' left open"), ("map_labels", -1, "left open, or contradictory")]
    assert steps["cat"] == [("map_labels", 0, "no row, and the source covers the label")]
    assert "sky" not in steps  # another source covers it


def test_rows_that_map_to_no_label_are_listed_with_their_fate():
    assert [text for _, _, text in history()[NO_LABEL]] == [
        "'ghost' present (annotation, 1.00); stands nowhere in the taxonomy",
        "'shadow' present (annotation, 1.00); dropped: no object",
    ]


def test_duplicates_proposals_and_verdicts_are_links_of_the_chain():
    groups = pa.Table.from_pylist([{"image_id": i, "group_id": "g"} for i in ("i", "j")], schema=GROUPS)
    change = {"image_id": "i", "label": "cat", "before": -1, "after": 1, "rule": "review:ann", "present": 0.75}
    verdict = label_rows([("i", "cat", 1, 1.0, "review:ann")])
    steps = history(
        {
            "deduplicated.groups": groups,
            "deduplicated.labels": MAPPED.labels,
            "deduplicated.unknown": unknown_rows([("i", "dog"), ("i", "cat")]),
            "mapped.proposals": label_rows([("i", "cat", 1, 0.8, "vendor:x")]),
            "cleaned.changes": pa.Table.from_pylist([change], schema=CHANGES),
            "cleaned.labels": pa.concat_tables([verdict, MAPPED.labels.cast(RAW.schema)]),
            "cleaned.unknown": OPEN,
        }
    )
    assert steps["cat"] == [
        ("map_labels", 0, "no row, and the source covers the label"),
        ("deduplicate", -1, "duplicates disagree: j"),
        ("proposals", 1, "vendor:x 0.80"),
        ("clean", 1, "review:ann (was unknown, P(present) 0.75)"),
    ]
    assert steps["dog"][-1][0] == "map_labels"
    assert len(steps["forest"]) == 2  # nothing changed: no further links


def test_an_absence_by_exhaustive_children_names_its_children():
    labels = [{"id": "even", "exhaustive_children": True}, {"id": "two", "implies": ["even"], "from": {"v": ["two"]}}]
    taxonomy = parse_taxonomy({"labels": labels})
    mapped = map_rows(label_rows([("i", "two", 0)]), taxonomy, "v").labels
    steps = explain_image("i", {"mapped.labels": mapped}, taxonomy, source="s", vocabulary="v")
    assert steps[0] == Step("even", "map_labels", 0, "rule:exhaustive_children: two absent")


def shown(steps: list[Step]) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render(steps))
    return console.export_text()


def test_the_history_fits_80_columns_and_keeps_names_as_they_are():
    odd = [
        Step("[red]a[/red]", "ingest", 1, "'[x]' present (box, 1.00)"),
        Step("[red]a[/red]", "map_labels", 1, "as said"),
    ]
    text = shown([*odd, *explain_image("i", TABLES, TAXONOMY, source="s", vocabulary="v")])
    assert "[red]a[/red]" in text
    assert "'[x]' present" in text
    assert "absent, since the source covers them and names none: cat" in text
    assert max(map(len, text.splitlines())) <= 80


def test_an_image_of_which_nothing_is_known_says_so():
    assert "Nobody has said anything about this image." in shown([])
