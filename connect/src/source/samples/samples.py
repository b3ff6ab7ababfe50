#!/usr/bin/env python3
"""Writes samples.txt: messages in Avro and Protobuf, encoded by other people's libraries, a name and its bytes in
hexadecimal a line. The decoders' tests read it, so that they are not held to an encoder of our own.

    python3 -m venv v && v/bin/pip install fastavro==1.13.1 protobuf==5.29.3 grpcio-tools==1.69.0
    v/bin/python samples.py > samples.txt
"""

import datetime
import importlib
import io
import json
import pathlib
import sys
import tempfile
from decimal import Decimal

import fastavro
import grpc_tools.protoc

here = pathlib.Path(__file__).resolve().parent
UTC = datetime.timezone.utc


def sample(name, data):
    print(name, data.hex())


def avro(name, schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    sample(f"avro_{name}", out.getvalue())


trip = json.loads((here / "trip.avsc").read_text())
full = {
    "done": True,
    "riders": 3,
    "id": 1 << 40,
    "weight": 1.5,
    "fare": 12.75,
    "blob": b"raw \xc3\xa9",
    "zone": "Zür\"ich",
    "kind": "BOOKED",
    "code": b"ABCD",
    "note": "late",
    "at": datetime.datetime(2026, 1, 31, 12, 0, 0, 250000, tzinfo=UTC),
    "at_us": datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "day": datetime.date(2026, 2, 28),
    "price": Decimal("-123.45"),
    "uuid": "01234567-89ab-cdef-0123-456789abcdef",
    "from": {"lat": 47.25, "more": {"floor": -7}},
    "stops": [1, -2, 300000],
    "tags": {"a": 1, "b": None},
    "back": None,
}
edge = dict(
    full,
    done=False,
    riders=-(1 << 31),
    id=(1 << 63) - 1,
    weight=float("inf"),
    fare=float("nan"),
    blob=b"",
    zone="",
    kind="STREET",
    note=None,
    at=datetime.datetime(1970, 1, 1, tzinfo=UTC),
    at_us=None,
    day=datetime.date(1, 1, 1),
    price=Decimal("0.00"),
    stops=[],
    tags={},
    back=full,
)
edge["from"] = {"lat": -0.5, "more": None}
avro("full", trip, full)
avro("edge", trip, edge)


def record(*fields):
    return {"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in fields]}


# One column through three ages of a schema: it widens, another comes, a third goes.
avro("age_1", record(("id", "long"), ("n", "int"), ("old", "string")), {"id": 1, "n": 7, "old": "x"})
avro("age_2", record(("n", ["null", "long"]), ("id", "int"), ("w", "string")), {"id": 2, "n": 1 << 33, "w": "new"})
avro("age_3", record(("w", ["null", "string"]), ("n", ["double", "null"]), ("id", "long")), {"id": 3, "n": 0.5, "w": None})

with tempfile.TemporaryDirectory() as made:
    wkt = pathlib.Path(grpc_tools.protoc.__file__).parent / "_proto"
    grpc_tools.protoc.main(["protoc", f"-I{here}", f"-I{wkt}", f"--python_out={made}", "trip.proto"])
    sys.path.insert(0, made)
    pb = importlib.import_module("trip_pb2")

full = pb.Trip(
    done=True,
    riders=-3,
    id=1 << 40,
    big=5,
    delta=-6,
    fixed=7,
    weight=1.5,
    fare=12.75,
    blob=b"raw \xc3\xa9",
    zone='Zür"ich',
    kind=pb.BOOKED,
    note="late",
    stops=[1, -2, 300000],
    tags={"b": 2, "a": 1},
    card="visa",
)
full.at.seconds, full.at.nanos = 1769860800, 250000999
full.seats.value = 0
getattr(full, "from").lat = 47.25
getattr(full, "from").floor = 0
full.back.id = 9
sample("proto_full", full.SerializeToString(deterministic=True))
sample("proto_empty", pb.Trip().SerializeToString())
edge = pb.Trip(id=-(1 << 63), big=(1 << 64) - 1, kind=77, cash=0.0, weight=float("-inf"))
edge.at.seconds, edge.at.nanos = -1, 999999000
getattr(edge, "from").lat = -0.5
sample("proto_edge", edge.SerializeToString(deterministic=True))
too_big = pb.Trip(big=1 << 63)
sample("proto_too_big", too_big.SerializeToString())
# Behind it, fields that the schema does not know: a text, a message.
unknown = bytes.fromhex("f2060474657374c2060b0a046162636410d207c806")
sample("proto_unknown", pb.Trip(id=4).SerializeToString() + unknown)
