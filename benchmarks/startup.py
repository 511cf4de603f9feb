"""How soon the first result comes: import, first `simulate` of a new SDE, a second one, and the whole process.

Each figure is the median over fresh processes (Python's own start included in "process"), in wall time; "later" is a
process started after the others, which finds nothing cached on disk and must be no slower. "busy" is processor time.

    python benchmarks/startup.py [processes]
"""

import json
import statistics
import subprocess
import sys
import time

LIMITS = {"import": 0.5, "first simulate": 1.0, "process": 2.0}
PROGRAM = """
import json, time
begin = time.perf_counter()
import sdesim as sim
imported = time.perf_counter()

def ensemble(drift, noise):
    sde = sim.SDE({"x": drift}, {"x": noise}, parameters={"s": 0.5})
    return sim.simulate(sde, {"x": 0.1}, [0.5, 1.0], members=1000, dt=0.01, seed=1)

ensemble("x - x**3", "s*x")
first = time.perf_counter()
ensemble("sin(x) - x**3", "s")
second = time.perf_counter()
print(json.dumps({"import": imported - begin, "first simulate": first - imported, "second simulate": second - first,
                  "busy": time.process_time()}))
"""


def once() -> dict[str, float]:
    """The figures of one fresh process, in seconds."""
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures | {"process": time.perf_counter() - begin}


def main(processes: int = 5) -> None:
    once()  # compiles Python's own bytecode and fills the disk cache
    runs = [once() for _ in range(processes)]
    later = once()
    print(f"{'':16} {'median':>8} {'worst':>8} {'later':>8} {'limit':>8}   (seconds, {processes} processes)")
    for name in ("import", "first simulate", "second simulate", "process", "busy"):
        values = [run[name] for run in runs]
        limit = f"{LIMITS[name]:8.2f}" if name in LIMITS else f"{'':8}"
        print(f"{name:16} {statistics.median(values):8.2f} {max(values):8.2f} {later[name]:8.2f} {limit}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
