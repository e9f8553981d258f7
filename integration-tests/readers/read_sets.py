"""Opens the example's feature sets in pyarrow, DuckDB, Polars and deltalake, and says what does not fit.

    python integration-tests/readers/read_sets.py examples/flights/features integration-tests/oracle/expected/example/counts.json
"""

import json
import pathlib
import sys

import deltalake
import duckdb
import polars
import pyarrow.dataset
import pyarrow.parquet

# For each set: its Hive partition column, its entity column, and a type for each of some columns as pyarrow prints it.
SETS = {
    "carrier_punctuality": dict(
        partition="flight_day_month", entity="carrier",
        types=dict(carrier="string", flight_day="date32[day]", flights="int64", on_time_share="double"),
    ),
    "airport_congestion": dict(
        partition="origin", entity=None,
        types=dict(scheduled="timestamp[us, tz=UTC]", departures="int64", temp="double", wind_dir="int32"),
    ),
    "plane_history": dict(
        partition="scheduled_day", entity="tailnum",
        types=dict(tailnum="string", scheduled="timestamp[us, tz=UTC]", seats="int32", miles_per_hour="double", cancelled="bool"),
    ),
}
DELTA = {"plane_history"}


def plain(data_type):
    """A string is a string, however Arrow lays it out."""
    text = str(data_type)
    return "string" if text in ("string", "large_string", "string_view") else text


def check_files(folder, of):
    files = sorted(folder.rglob("*.parquet"))
    assert files, f"no file below {folder}"
    rows = 0
    for path in files:
        metadata = pyarrow.parquet.read_metadata(path)
        rows += metadata.num_rows
        for group in range(metadata.num_row_groups):
            for index in range(metadata.num_columns):
                column = metadata.row_group(group).column(index)
                assert column.is_stats_set, f"{path}: no statistics for {column.path_in_schema}"
                assert column.statistics.has_null_count, f"{path}: no null count for {column.path_in_schema}"
                assert column.compression == "ZSTD", f"{path}: {column.compression}"
                assert column.has_offset_index, f"{path}: no page index for {column.path_in_schema}"
    return files, rows


def check_bloom_filters(db, files, entity):
    """An entity key has a bloom filter in most files; where a few values repeat, a dictionary says the same."""
    filters = db.execute(
        "select count(bloom_filter_offset), count(*) from parquet_metadata(?) where path_in_schema = ?",
        [[str(path) for path in files], entity],
    ).fetchone()
    assert filters[0] == filters[1] > 0, f"bloom filters on {entity}: {filters[0]} of {filters[1]} row groups"


def check_set(db, folder, name, of, written):
    files, rows = check_files(folder, of)
    assert rows == written, f"{rows} rows in the files, {written} expected"

    dataset = pyarrow.dataset.dataset(folder, format="parquet", partitioning="hive", exclude_invalid_files=False)
    assert dataset.count_rows() == written
    assert of["partition"] in dataset.schema.names, dataset.schema
    for column, expected in of["types"].items():
        found = plain(dataset.schema.field(column).type)
        assert found == expected, f"pyarrow: {column} is {found} instead of {expected}"

    glob = f"{folder}/**/*.parquet"
    counted = db.execute(f"select count(*), count({of['partition']}) from read_parquet('{glob}', hive_partitioning = true)")
    assert counted.fetchone() == (written, written)
    if of["entity"]:
        check_bloom_filters(db, files, of["entity"])

    frame = polars.scan_parquet(glob, hive_partitioning=True).collect()
    assert frame.height == written and of["partition"] in frame.columns

    if name in DELTA:
        table = deltalake.DeltaTable(str(folder))
        live = {pathlib.Path(uri).resolve() for uri in table.file_uris()}
        assert live == {path.resolve() for path in files}, "the Delta log names other files than those on disk"
        scan = polars.scan_delta(str(folder)).select(polars.len()).collect().item()
        assert scan == written, f"the Delta table has {scan} rows"
    print(f"{name}: {written} rows in {len(files)} files, the same in every reader")


def main(features, counts):
    expected = json.loads(pathlib.Path(counts).read_text())["sets"]
    db = duckdb.connect()
    wrong = []
    for name, of in SETS.items():
        try:
            check_set(db, pathlib.Path(features) / name, name, of, expected[name]["written"])
        except Exception as problem:
            wrong.append(f"{name}: {type(problem).__name__}: {problem}")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
