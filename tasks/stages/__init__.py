"""One module a stage of dvc.yaml: read, call the domain, write.

To add one: `tasks/stages/foo.py` with `run(params)` (or `run(params, item)` for a `foreach` stage) and a `foo:` block
in dvc.yaml with `cmd: python -m tasks foo`; its numbers go into a `foo:` section of params.yaml, typed in
tasks/params.py. Modules with a leading underscore are shared by stages and are not stages.
"""
