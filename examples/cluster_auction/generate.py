"""Makes jobs.csv, machines.csv and trace_machines.csv anew: a small cluster of four classes of machines, from a seed.

Usage: python3 generate.py, in this folder. Needs nothing but Python.
"""

import random

JOBS, CLASSES, MACHINES = 240, 4, 24
random.seed(2011)


def stamp(second, day):
    return f"{day}{second // 86400 + 1:02}T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def write(name, header, events, day="2011-05-"):
    """Events are pairs of a second and a row; they are written in the order of time."""
    with open(name, "w", encoding="utf-8", newline="\n") as out:
        out.write(header + "\n")
        for second, row in sorted(events, key=lambda event: event[0]):
            out.write(f"{stamp(second, day)},{row}\n")


machines, trace_machines = [], []
for machine in range(MACHINES * CLASSES):
    capacity, cost = 0.5 + random.random() / 2, 0.3 + random.random() / 2
    availability, reliability = 0.95 + random.random() / 20, 0.95 + random.random() / 20
    energy = 0.6 + random.random() * 0.3
    row = (
        f"{machine},{machine % CLASSES},{capacity:.3f},{cost:.3f},"
        f"{availability:.4f},{reliability:.4f},{energy:.3f}"
    )
    machines.append((0, row + ",false"))
    trace_machines.append((0, row + ",false"))
    # One in eight fails, and half of those come back.
    if machine % 8 == 5:
        failed = random.randrange(1800, 9000)
        machines.append((failed, row + ",true"))
        if machine % 16 == 5:
            machines.append((failed + 1200, row + ",false"))
header = "at,machine,class,capacity,cost,availability,reliability,energy,down"
write("machines.csv", header, machines)

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

# The same machines in the time of the Google trace, which begins at 0 and is 35 hours long here: one in eight fails every
# eight hours or so, for an hour. Drawn last, so that the other files stay as they are.
for second, row in list(trace_machines):
    if int(row.split(",")[0]) % 8 == 5:
        for turn in range(4):
            failed = turn * 30000 + random.randrange(1800, 26000)
            trace_machines.append((failed, row.replace(",false", ",true")))
            trace_machines.append((failed + 3600, row))
write("trace_machines.csv", header, trace_machines, "1970-01-")
