"""Labels and people: what to ask, what their verdicts come to, and the pages that say how to judge.

verdicts.py      data/review/verdicts.jsonl, a line a verdict
duplicate_verdicts.py  data/review/duplicates.jsonl: which pictures that look alike are no duplicates
agreement.py     all verdicts on today's images and labels: the latest of each person, then a vote
queue.py         the questions with the highest expected gain, and a random audit
audit.py         what the answers say about the annotations, and how far people agree
last_run.py      questions, verdicts and names under today's taxonomy
recording.py     verdicts given at the terminal or exported by another tool (imports.py)
exports.py       the open questions for Label Studio, CVAT or a spreadsheet
status.py        how much is decided
mining.py        pool images that resemble a label's positives, as questions; the plane of the embeddings plot
guidelines.py    one page a label: definition, sure and hard examples as pictures
label_history.py where each label of an image came from
screen/          FiftyOne: the screen, never the store. Everything it holds can be thrown away after `pull`
"""
