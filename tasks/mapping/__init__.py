"""Source classes -> the project's labels: source by source (source_mapping), row by row (mapping)."""
