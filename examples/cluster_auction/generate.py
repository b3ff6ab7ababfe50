"""Makes jobs.csv and machines.csv anew: a small cluster of four classes of machines, from a seed.

Usage: python3 generate.py, in this folder. Needs nothing but Python.
"""

import random

JOBS, CLASSES, MACHINES = 240, 4, 24
random.seed(2011)


def stamp(second):
    return f"2011-05-01T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def write(name, header, events):
    """Events are pairs of a second and a row; they are written in the order of time."""
    with open(name, "w", encoding="utf-8", newline="\n") as out:
        out.write(header + "\n")
        for second, row in sorted(events, key=lambda event: event[0]):
            out.write(f"{stamp(second)},{row}\n")


machines = []
for machine in range(MACHINES * CLASSES):
    capacity, cost = 0.5 + random.random() / 2, 0.3 + random.random() / 2
    availability, reliability = 0.95 + random.random() / 20, 0.95 + random.random() / 20
    energy = 0.6 + random.random() * 0.3
    row = (
        f"{machine},{machine % CLASSES},{capacity:.3f},{cost:.3f},"
        f"{availability:.4f},{reliability:.4f},{energy:.3f}"
    )
    machines.append((0, row + ",false"))
    # One in eight fails, and half of those come back.
    if machine % 8 == 5:
        failed = random.randrange(1800, 9000)
        machines.append((failed, row + ",true"))
        if machine % 16 == 5:
            machines.append((failed + 1200, row + ",false"))
write("machines.csv", "at,machine,class,capacity,cost,availability,reliability,energy,down", machines)

jobs = []
for job in range(JOBS * CLASSES):
    begin = random.randrange(0, 10800)
    demand, priority = random.choice([0.125, 0.25, 0.25, 0.5]), random.randrange(0, 12)
    budget = 20 * demand * random.random() + priority / 4
    row = f"{job},u{random.randrange(60):02},{job % CLASSES},{demand},{budget:.3f},{priority}"
    jobs.append((begin, row + ",false"))
    end = begin + 300 + int(random.expovariate(1 / 4000))
    if end < 10800:
        jobs.append((end, row + ",true"))
write("jobs.csv", "at,job,user,class,demand,budget,priority,done", jobs)
