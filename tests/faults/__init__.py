"""What must not break the program, tried at random and in numbers: `python -m tests.faults --help`.

    mutants.py   files of every reader, changed at random: used or refused in one line, within seconds
    targets.py   one valid file of every reader

The short forms are part of the suite; docs/reliability.md has the figures of the long ones.
"""
