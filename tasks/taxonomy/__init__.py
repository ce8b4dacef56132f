"""The project's label space: what the labels mean, what the sources' names become, what is wrong and who said so.

taxonomy, mapping, propagation and coverage turn native rows into the project's own; relations does the same to a
model's output; noise, proposals, cleaning, queue and verdicts mend annotations; migrations carry old data into a new
taxonomy; explain tells one image's story.

POLICIES of `tasks.cleaning.policies` decide what cleaning may change. To add one: see that module.
"""
