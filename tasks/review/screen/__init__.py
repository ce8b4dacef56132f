"""Judging labels by eye, in FiftyOne.

exchange.py    the last run's questions onto the screen, and what was decided there into the verdicts' file
cards.py       tables -> cards: one a question, one for every image shown for another reason
tags.py        tags on cards -> judgements; which of them are new
dataset.py     cards -> a FiftyOne dataset, and what a person did to it -> tagged cards
plugins/       keys that answer, loaded by FiftyOne itself
connection.py  FiftyOne and its database, inside the project's folder; the only import of fiftyone beside plugins/
app.py         the App in the browser
"""
