"""Judging labels by eye: what a person is shown, what their tags mean, and the pages that say how to judge.

    cards.py       tables -> cards: one a question, one for every image shown for another reason
    tags.py        tags on cards -> judgements; which of them are new; how much is decided
    connection.py  FiftyOne and its database, inside the project's folder
    screen.py      cards -> a FiftyOne dataset, and what a person did to it -> tagged cards
    app.py         the App in the browser
    mining.py      pool images that resemble a label's positives, as questions; the plane of the embeddings plot
    guideline.py   one page a label: definition, sure and hard examples as pictures

FiftyOne is the screen, never the store: everything it holds can be thrown away after `pull`. This package knows nothing
of the verdicts' file; `tasks/commands/review.py` joins the two.
"""
