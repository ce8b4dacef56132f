"""FiftyOne plugin: one key, or one button, answers the open card or those that are ticked, and the next card opens.

An answer is a tag, as by hand, which `review pull` reads. FiftyOne loads this folder itself (FIFTYONE_PLUGINS_DIR);
nothing of the project can be imported here. keys.js binds the keys.
"""

from __future__ import annotations

import fiftyone.operators as foo
from fiftyone import ViewField
from fiftyone.operators import types

ANSWERS = ("present", "absent", "unsure", "not a duplicate")
DRAW_GRID = "@tagwright/answers/draw_grid"
"""In keys.js: the grid drops what was answered, once no card is open."""


class OnCards(foo.Operator):
    """Does something to the open card, or else to the ticked ones."""

    says = ""  # on its button
    icon = ""

    @property
    def config(self) -> foo.OperatorConfig:
        name = self.says.rpartition(" ")[0].lower().replace(" ", "_")
        return foo.OperatorConfig(name=name, label=self.says, icon=self.icon)

    def resolve_placement(self, ctx: foo.ExecutionContext) -> types.Placement:
        return types.Placement(
            types.Places.SAMPLES_VIEWER_ACTIONS, types.Button(label=self.says, icon=self.icon, prompt=False)
        )

    def execute(self, ctx: foo.ExecutionContext) -> None:
        cards = [ctx.current_sample] if ctx.current_sample else list(ctx.selected)
        if not cards:
            ctx.ops.notify("Open a card, or tick some, and press the key again.")
            return
        in_view = ctx.view.values("id")  # before an answer takes the card out of it
        if not self.answer(ctx, cards):
            return
        ctx.ops.clear_selected_samples()
        if ctx.current_sample:
            show_next(ctx, in_view)
        ctx.trigger(DRAW_GRID)

    def answer(self, ctx: foo.ExecutionContext, cards: list[str]) -> bool:
        """Whether it was an answer to all of the cards."""
        return True


def show_next(ctx: foo.ExecutionContext, in_view: list[str]) -> None:
    """Open the card after the open one, or close it after the last."""
    after = in_view.index(ctx.current_sample) + 1 if ctx.current_sample in in_view else 0
    if after < len(in_view):
        ctx.ops.open_sample(id=in_view[after])
    else:
        ctx.ops.close_sample()
        ctx.ops.notify("That was the last card of this view.")


def write_tag(dataset, cards: list[str], tag: str | None) -> None:
    """Put the tag on the cards; None takes all answers off. Of the answers to a question a card bears one."""
    shown = dataset.select(cards)
    others = () if tag == ANSWERS[-1] else ANSWERS if tag is None else ANSWERS[:-1]
    shown.untag_samples([answer for answer in others if answer != tag])
    shown.untag_labels(list(others), label_fields="question")
    if tag:
        shown.tag_samples(tag)
    shown.set_values("answer", [tag] * len(shown))  # what the card shows


class Verdict(OnCards):
    """An answer to the question on the card."""

    def answer(self, ctx, cards):
        if None in ctx.dataset.select(cards).values("question.label"):
            ctx.ops.notify("This card asks nothing about a label.", variant="warning")
            return False
        write_tag(ctx.dataset, cards, type(self).__name__.lower())
        return True


class Present(Verdict):
    says, icon = "Present p", "check"


class Absent(Verdict):
    says, icon = "Absent a", "close"


class Unsure(Verdict):
    says, icon = "Unsure u", "question_mark"


class NotADuplicate(OnCards):
    """The card's picture is none of its group. Of a group of two, that says the same about the other."""

    says, icon = "Not a duplicate d", "call_split"

    def answer(self, ctx, cards):
        groups = ctx.dataset.select(cards).values("duplicate_group")
        if None in groups:
            ctx.ops.notify("This card is in no group of duplicates.", variant="warning")
            return False
        ids = [
            pair
            for group in groups
            if len(set((members := ctx.dataset.match(ViewField("duplicate_group") == group)).values("image_id"))) == 2
            for pair in members.values("id")
        ]
        write_tag(ctx.dataset, [*cards, *ids], ANSWERS[-1])
        return True


class Skip(OnCards):
    says, icon = "Skip s", "skip_next"


class TakeBack(OnCards):
    """The last answer comes off its card, which opens."""

    says, icon = "Take back z", "undo"

    def execute(self, ctx):
        answered = ctx.dataset.match_tags(list(ANSWERS)).sort_by("last_modified_at", reverse=True)
        if not answered:
            ctx.ops.notify("There is no answer to take back.")
            return
        card = answered.first().id
        write_tag(ctx.dataset, [card], None)
        ctx.ops.open_sample(id=card)
        ctx.trigger(DRAW_GRID)


def register(plugin) -> None:
    for operator in (Present, Absent, Unsure, NotADuplicate, Skip, TakeBack):
        plugin.register(operator)
