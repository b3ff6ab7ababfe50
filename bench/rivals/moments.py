"""What others need for the forgotten moments of 40 features, tick by tick; one JSON line a figure.

    python3 -m venv rivals && rivals/bin/pip install numpy==2.4.6 river==0.26.1
    rivals/bin/python bench/rivals/moments.py

River forgets means and variances (`EWMean`, `EWVar`); its covariance matrix (`EmpiricalCovariance`) does not forget.
Each figure is the median of five repetitions, in microseconds a tick.
"""
import json
import random
import statistics
import time

import numpy
from river import covariance, stats

FEATURES, TICKS, REPETITIONS = 40, 2_000, 5
draw = random.Random(1)
ticks = [[draw.gauss(0, 1) for _ in range(FEATURES)] for _ in range(TICKS)]
named = [{i: x for i, x in enumerate(tick)} for tick in ticks]


def by_numpy():
    mean, moments, share = numpy.zeros(FEATURES), numpy.zeros((FEATURES, FEATURES)), 1e-4
    for tick in map(numpy.array, ticks):
        mean += share * (tick - mean)
        moments *= 1 - share
        moments += share * numpy.outer(tick, tick)


def by_river_variances():
    means = [stats.EWMean(1e-4) for _ in range(FEATURES)]
    variances = [stats.EWVar(1e-4) for _ in range(FEATURES)]
    for tick in ticks:
        for x, mean, variance in zip(tick, means, variances):
            mean.update(x)
            variance.update(x)


def by_river_covariance():
    matrix = covariance.EmpiricalCovariance()
    for tick in named:
        matrix.update(tick)


for name, run in (
    ("numpy", by_numpy),
    ("river_variances", by_river_variances),
    ("river_covariance", by_river_covariance),
):
    micros = []
    for _ in range(REPETITIONS):
        begin = time.perf_counter()
        run()
        micros.append((time.perf_counter() - begin) / TICKS * 1e6)
    figure = {"bench": "features", "metric": f"us_per_tick_{name}", "value": round(statistics.median(micros), 3), "unit": "us"}
    print(json.dumps(figure | {"spread": [round(min(micros), 3), round(max(micros), 3)]}), flush=True)
