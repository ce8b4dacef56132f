"""Pure functions that a Prefect task may run: everything Tagwright does to images, labels and models.

Nothing here imports prefect, dvc or flows. `stages/` reads, calls one of the domain packages and writes; the domain
packages (sources, labels, images, sampling, nn, training, metrics, thresholds, review, report, export) take arrays and
tables and return them.
"""
