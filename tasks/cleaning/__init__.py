"""Labels from imperfect annotations and weak label sources: what to change, what to leave unknown, what to ask about.

    weak_sources.py   scores of whoever says something about a pair: model, vendors, detectors, keywords, neighbours
    noise.py          P(present) from those scores and the annotation, with the annotators' error rates
    slips.py          names given in place of others: errors of an image that come in pairs
    decisions.py      a policy over all images, a batch at a time
    changes.py        assertions of policy and people, applied to the label tables

POLICIES maps a name of `clean.policy` to a class built from its options. `fit(source_scores, labels_NC, known_NC)`
learns from some of the images what the policy must know of all, and returns a function of the same arguments that
decides about any batch of them (base.py: Policy, Decide). To add one: a module with such a class, an entry in the dict.
"""

from __future__ import annotations

from tasks.cleaning.album import Album
from tasks.cleaning.consensus import Consensus
from tasks.cleaning.self_confidence import SelfConfidence

POLICIES = {"consensus": Consensus, "album": Album, "self_confidence": SelfConfidence}
