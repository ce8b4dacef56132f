"""What must not break the program, tried at random and in numbers: `python -m tests.faults --help`.

    mutants.py   files of every reader, changed at random: used or refused in one line, within seconds
    targets.py   one valid file of every reader
    kills.py     stages and commands killed at random moments, and run again
    machine.py   what a machine does to a run: full disks, dead workers and servers, …
    outages.py   servers of S3 and MLflow that go away in the middle and come back
    flow_kills.py    the flow, DVC and its hashing killed
    clients.py   honest clients beside slow ones
    hostile_source.py    bombs, liars, loops and crashers among good pictures

Short forms of mutants, clients and the hostile source are part of the suite; docs/reliability.md has figures.
"""
