"""python -m tests.faults: attack the program in numbers, and print what became of it. Exit 1 where something broke."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

from tests.export import toy
from tests.faults import clients, flow_kills, hostile_source, kills, machine, mutants, outages
from tests.homes import new_home

LONG = "--kills 175 --flow-kills 25 --faults --mutants 3000 1000 --pictures 1000 --clients 200 300 60"
"""What runs where nothing is asked for."""


def main(argv: list[str]) -> int:
    """Exit status: 0 when all held."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__, epilog=f"Nothing: {LONG}")
    parser.add_argument("--kills", type=int, metavar="N", help="kill stages and commands so often")
    parser.add_argument("--flow-kills", type=int, metavar="N", help="kill the flow, DVC and its hashing so often")
    parser.add_argument("--faults", nargs="*", metavar="NAME", help="lay faults of the machine upon stages; none: all")
    parser.add_argument("--pictures", type=int, metavar="N", help="ingest N, 20 of them bombs, liars, loops, crashers")
    parser.add_argument("--stages", nargs="+", default=kills.STAGES, help="which of them to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    parser.add_argument(
        "--clients", nargs=3, type=float, metavar=("HONEST", "SLOW", "SECONDS"), help="both kinds at the service"
    )
    parser.add_argument("--mutants", nargs=2, type=int, metavar=("TEXT", "BINARY"), help="how many changed files")
    parser.add_argument("--only", default="", help="only mutants or faults whose name holds this")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--mutant", help="one of them again: its target and number")
    chosen = parser.parse_args(argv or LONG.split())
    failures = 0
    if chosen.mutant:
        name, _, number = chosen.mutant.rpartition(" ")
        mutant, outcome, what = mutants.try_one(name, int(number))
        print(f"{mutant[:2000]!r}\n{outcome}: {what}")
        failures += outcome in mutants.BAD
    if chosen.kills:
        with tempfile.TemporaryDirectory() as folder:
            home = new_home(Path(folder), kills.TINY)
            failures += kills.show(kills.run(home, chosen.stages, chosen.kills, seed=chosen.seed))
    if chosen.flow_kills:
        failures += kills.show(flow_kills.run(chosen.flow_kills, seed=chosen.seed))
    if chosen.faults is not None:
        with tempfile.TemporaryDirectory() as folder, kills.inside(new_home(Path(folder), kills.TINY)):
            jobs = kills.jobs_of(("make_demo", *kills.CHEAP, "pretrain") if not chosen.faults else chosen.stages)
            names = [n for n in chosen.faults or [*machine.faults(), *outages.OUTAGES] if chosen.only in n]
            wanted = kills.run_undisturbed(jobs) if {*names} - {*outages.OUTAGES} else {}
            failures += machine.show(itertools.chain(machine.try_all(jobs, wanted, names), outages.try_all(names)))
    if chosen.mutants:
        failures += mutants.show(mutants.run(*chosen.mutants, only=chosen.only, first=chosen.first))
    if chosen.pictures:
        with tempfile.TemporaryDirectory() as folder:
            failures += hostile_source.run(Path(folder) / "pictures", chosen.pictures, 20)
    if chosen.clients:
        num_honest, num_slow, seconds = chosen.clients
        with tempfile.TemporaryDirectory() as folder, clients.service(toy.exported(Path(folder))) as port:
            tally = clients.beside(port, num_honest=int(num_honest), num_slow=int(num_slow), seconds=seconds)
        failures += clients.show(tally)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
