"""Computes the views of examples/recorded with DuckDB (and TD(0) in plain Python), as one JSON object on stdout.

Usage: real_data.py EXAMPLE DATA_DIR. Each view is a list of rows; its first two columns identify a row.
"""

import json
import sys

import duckdb


DB = duckdb.connect()


def fetch(query):
    return DB.execute(query).fetchall()


def rows(query):
    cursor = DB.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


def nyc_taxi(data):
    path = f"{data}/dispatch/nyc_taxi_debs2015_2013-01-01_00h.csv.zst"
    DB.execute(f"create table trips as select *, row_number() over () as seq from read_csv('{path}', parallel=false)")
    DB.execute("""
        create table rides as
        select seq, medallion, dropoff_datetime, trip_time_in_secs as seconds, trip_distance as miles,
               fare_amount as fare,
               cast(round(pickup_longitude * 100) as bigint) || '/' || cast(round(pickup_latitude * 100) as bigint)
                   as from_cell,
               cast(round(dropoff_longitude * 100) as bigint) || '/' || cast(round(dropoff_latitude * 100) as bigint)
                   as to_cell
        from trips where pickup_longitude <> 0 and dropoff_longitude <> 0 and trip_time_in_secs > 0
    """)
    by_cell = rows("""
        select from_cell, count(*) as rides, sum(fare) as fares, max(seconds) as longest, min(seconds) as shortest
        from rides group by from_cell
    """)
    busiest = sorted(by_cell, key=lambda r: (-r["rides"], r["from_cell"].encode()))[:20]
    busiest = [{"from_cell": r["from_cell"], "rank": n + 1, "rides": r["rides"]} for n, r in enumerate(busiest)]
    ranks = {r["from_cell"]: r["rank"] for r in busiest}
    values, visits = {}, {}
    for state, after, reward, seconds in fetch(
        "select from_cell, to_cell, fare, seconds from rides order by dropoff_datetime, seq"
    ):
        now = values.get(state, 0.0)
        target = reward + 0.9 ** (seconds / 600) * values.get(after, 0.0)
        values[state] = now + 0.025 * (target - now)
        visits[state] = visits.get(state, 0) + 1
    return {
        "_records": [fetch("select count(*) from trips")[0][0]],
        "by_payment": rows("""
            select payment_type, count(*) as trips, sum(fare_amount) as fares,
                   cast(sum(trip_time_in_secs) as bigint) as seconds, max(tip_amount) as tip_max,
                   avg(fare_amount) as fare_mean
            from trips group by payment_type
        """),
        "by_cell": by_cell,
        "busiest": busiest,
        "by_medallion": rows(
            "select medallion, count(*) as rides, sum(miles) as miles from rides group by medallion"
        ),
        "cell_values": [{"from_cell": s, "visits": visits[s], "value": v} for s, v in values.items() if s in visits],
        "cells": [{"from_cell": r["from_cell"], "rides": r["rides"], "rank": ranks.get(r["from_cell"])} for r in by_cell],
    }


def google_jobs(data):
    path = f"{data}/cluster/google_2011_job_events/*.csv.gz"
    columns = (
        "{'time_us': 'BIGINT', 'missing': 'BIGINT', 'job': 'BIGINT', 'event': 'BIGINT', 'user_hash': 'VARCHAR', "
        "'class': 'BIGINT', 'job_name': 'VARCHAR', 'logical_name': 'VARCHAR'}"
    )
    DB.execute(f"""
        create table events as select *, row_number() over () as seq from (
            select * from read_csv('{path}', header=false, columns={columns}, parallel=false, filename=true))
    """)
    DB.execute("""
        create table jobs as select * exclude (n) from (
            select *, row_number() over (partition by job order by filename desc, seq desc) as n from events
        ) where n = 1
    """)
    by_user = """
        select user_hash, count(*) as jobs, max(time_us) as latest_us, avg(class) as class_mean from jobs group by user_hash
    """
    users = rows(by_user)
    top = sorted(users, key=lambda r: (-r["jobs"], r["user_hash"].encode()))[:25]
    return {
        "_records": [fetch("select count(*) from events")[0][0]],
        "by_event": rows("""
            select event, class, count(*) as events, min(time_us) as first_us, max(time_us) as last_us
            from events group by event, class
        """),
        "by_user": users,
        "top_users": [{"user_hash": r["user_hash"], "rank": n + 1, "jobs": r["jobs"]} for n, r in enumerate(top)],
        "jobs": rows("select job, time_us, event, user_hash, class from jobs"),
        "finished_users": rows(f"""
            select job, f.user_hash, f.time_us, jobs, latest_us
            from (select * from jobs where event = 4) f join ({by_user}) u on f.user_hash = u.user_hash
        """),
    }


if __name__ == "__main__":
    example, data = sys.argv[1], sys.argv[2]
    json.dump({"nyc_taxi": nyc_taxi, "google_jobs": google_jobs}[example](data), sys.stdout, default=str)
