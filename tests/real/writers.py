"""The writers that `make.py` runs in environments of their own: tables and tars, or downloads and Spark."""

# mypy: disable-error-code="import-not-found, import-untyped"

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote


def tables(pictures: Path, data: Path, url: str) -> dict[str, Any]:
    """Tables of datasets, DuckDB, polars and pandas, and webdataset's own tars."""
    import datasets
    import duckdb
    import pandas
    import polars
    import webdataset

    paths = sorted(pictures.glob("*.jpg"))
    contents, captions = [path.read_bytes() for path in paths], [path.with_suffix(".txt").read_text() for path in paths]
    facts: dict[str, Any] = {}

    def note(name: str, kind: str, writer: str, found: int = len(paths)) -> Path:
        facts[name] = {"kind": kind, "writer": writer, "rows": len(paths), "captions": found}
        return data / name

    held = [{"bytes": content, "path": path.name} for path, content in zip(paths, contents, strict=True)]
    made = datasets.Dataset.from_dict({"image": held, "text": captions}).cast_column("image", datasets.Image())
    made.to_parquet(note("datasets.parquet", "table", "datasets, to_parquet"))
    five = [[caption, "another"] for caption in captions]
    several = datasets.Dataset.from_dict({"image": held, "captions": five, "image_id": [*range(8)]})
    several.cast_column("image", datasets.Image()).to_parquet(note("several.parquet", "table", "datasets, lists"))

    names = f"'{pictures}/*.jpg'"
    base = "regexp_replace(filename, '.*/|[.][a-z]+$', '', 'g')"
    duckdb.sql(
        f"COPY (SELECT p.stem AS id, p.content AS image, t.content AS caption "
        f"FROM (SELECT {base} AS stem, content FROM read_blob({names})) p "
        f"JOIN (SELECT {base} AS stem, content FROM read_text('{pictures}/*.txt')) t USING (stem) ORDER BY 1) "
        f"TO '{note('duckdb.parquet', 'table', 'DuckDB, COPY')}'"
    )

    frame = polars.DataFrame({"uid": [f"{n:032x}" for n in range(8)], "jpg": contents, "caption": captions})
    frame.write_parquet(note("polars.parquet", "table", "polars, write_parquet"), row_group_size=3)
    categories = frame.with_columns(polars.col("caption").cast(polars.Categorical))
    categories.write_parquet(note("categorical.parquet", "table", "polars, categorical captions"))

    some = pandas.DataFrame({"image": contents, "caption": [*captions[:-1], None], "id": [1, None, *range(3, 9)]})
    some.to_parquet(note("pandas.parquet", "table", "pandas, nulls", 7))
    whole = some.assign(id=some["id"].astype("Int64"), caption=captions)
    whole.set_index("id").to_parquet(note("indexed.parquet", "table", "pandas, ids in the index"))
    folder = note("hub", "folder", "pandas, metadata.csv", 8)
    folder.mkdir()
    for path, content in zip(paths, contents, strict=True):
        (folder / path.name).write_bytes(content)
    listed = pandas.DataFrame({"file_name": [path.name for path in paths], "text": captions})
    listed.to_csv(folder / "metadata.csv", index=False)

    samples = [
        {"__key__": path.stem, "jpg": content, "txt": caption, "json": {"caption": caption}}
        for path, content, caption in zip(paths, contents, captions, strict=True)
    ]
    for name, writer in (("webdataset.tar", "TarWriter"), ("webdataset.tar.gz", "TarWriter, gzip")):
        with webdataset.TarWriter(str(note(name, "tar", f"webdataset, {writer}"))) as sink:
            for sample in samples:
                sink.write(sample)
    note("shards", "tars in a folder", "webdataset, ShardWriter").mkdir()
    with webdataset.ShardWriter(str(data / "shards" / "%06d.tar"), maxcount=3, verbose=0) as sink:
        for sample in samples:
            sink.write(sample)
    return facts


def downloads(pictures: Path, data: Path, url: str) -> dict[str, Any]:
    """What img2dataset downloads, in its forms, and Spark's layouts."""
    import img2dataset
    import pandas
    from pyspark.sql import SparkSession, functions

    paths = sorted(pictures.glob("*.jpg"))
    captions = [path.with_suffix(".txt").read_text() for path in paths]
    facts: dict[str, Any] = {}
    listed = pandas.DataFrame({"url": [f"{url}/{quote(path.name)}" for path in paths], "caption": captions})
    listed.to_parquet("urls.parquet")
    for form in ("webdataset", "parquet", "files"):
        name = f"img2dataset-{form}"
        img2dataset.download(
            url_list="urls.parquet",
            input_format="parquet",
            url_col="url",
            caption_col="caption",
            output_format=form,
            output_folder=str(data / name),
            processes_count=1,
            thread_count=2,
            image_size=16,
            number_sample_per_shard=5,
            enable_wandb=False,
        )
        facts[name] = {"kind": f"img2dataset's {form}", "writer": "img2dataset", "rows": 8, "captions": 8}

    spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    binary = spark.read.format("binaryFile").load(f"{pictures}/*.jpg")
    texts = spark.read.text([f"{pictures}/*.txt"], wholetext=True).withColumn("file", functions.input_file_name())
    stem = functions.regexp_extract("path", "([^/]*)[.]jpg$", 1)
    told = texts.select(
        "value", functions.url_decode(functions.regexp_extract("file", "([^/]*)[.]txt$", 1)).alias("stem")
    )
    joined = (
        binary.withColumn("stem", functions.url_decode(stem)).join(told, "stem").withColumnRenamed("value", "caption")
    )
    joined.repartition(2).write.parquet(str(data / "spark"))
    facts["spark"] = {"kind": "tables in a folder", "writer": "Spark, binaryFile", "rows": 8, "captions": 8}
    parted = joined.withColumn("part", functions.length("content") % 2)
    parted.coalesce(1).write.partitionBy("part").parquet(str(data / "spark-partitioned"))
    facts["spark-partitioned"] = {"kind": "tables in folders", "writer": "Spark, partitionBy", "rows": 8, "captions": 8}
    spark.stop()
    return facts


if __name__ == "__main__":
    kind, given, target, address = sys.argv[1:]
    written = {"tables": tables, "downloads": downloads}[kind](Path(given), Path(target), address)
    Path(f"{kind}.json").write_text(json.dumps(written))
