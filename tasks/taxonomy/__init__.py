"""The project's label space: its labels, their relations, and their history.

taxonomy defines the labels, file reads and checks taxonomy.yaml, drafts writes a first one. coded_rows, propagation and
exclusions apply the relations to label rows, relations to a model's output; migrations carry data of any age into
today's labels.
"""
