# python: kfp-2.17
"""Pipelines over data: 200 shards, nested loops, images of one's own, and nights on which something goes wrong."""

import os
import pathlib
import sys
import tempfile
from typing import List, NamedTuple

from _flow import Ran
from _harness import Server, Suite, equal
import kfp
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output, OutputPath, PipelineTaskFinalStatus

SHARDS = 200
# Nothing on this machine has these images, or could get them.
ETL, REPORTS = "registry.example/etl/shell:3.2", "registry.example/reports/python@sha256:" + "0" * 64
suite = Suite()


def folder():
    return pathlib.Path(tempfile.mkdtemp(prefix="flumina-realistic-"))


def lines(place):
    log = place / "log"
    return log.read_text().split() if log.exists() else []


# 200 shards of a table whose number is known only when it is cut, by a program that is no Python


@dsl.component
def cut(rows: int, shards: int, table: Output[Dataset]) -> list:
    """A folder of shards, and where each is."""
    import os

    os.makedirs(table.path)
    for shard in range(shards):
        with open(f"{table.path}/{shard}.csv", "w") as file:
            file.writelines(f"{row},{row % 7}\n" for row in range(shard, rows, shards))
    return [{"file": f"{shard}.csv", "weight": shard % 3} for shard in range(shards)]


@dsl.container_component
def count(table: Input[Dataset], name: str, weight: int, total: OutputPath(int)):
    """The sum of a column times the weight."""
    return dsl.ContainerSpec(
        image=ETL,
        command=["sh", "-ec", 'mkdir -p "$(dirname "$3")" && awk -F, -v w="$2" \'{ s += $2 } END { print s * w }\' "$0/$1" >"$3"'],
        args=[table.path, name, weight, total],
    )


@dsl.component
def add(totals: List[int]) -> NamedTuple("Sum", [("parts", int), ("total", int)]):
    from collections import namedtuple

    return namedtuple("Sum", ["parts", "total"])(len(totals), sum(totals))


@dsl.pipeline(name="shards")
def sharded(rows: int = 10_000):
    table = cut(rows=rows, shards=SHARDS)
    with dsl.ParallelFor(table.outputs["Output"]) as shard:
        counted = count(table=table.outputs["table"], name=shard.file, weight=shard.weight)
    add(totals=dsl.Collected(counted.outputs["total"]))


@suite.test
def two_hundred_shards_are_counted_apart_and_added(server, client):
    ran = Ran(server, client, sharded).ended("SUCCEEDED")
    expected = [sum(row % 7 for row in range(shard, 10_000, SHARDS)) * (shard % 3) for shard in range(SHARDS)]
    equal((ran.output("add", "parts"), ran.output("add", "total")), (SHARDS, sum(expected)))
    counted = [task for task in ran.tasks.values() if task["name"] == "count"]
    equal({int(task.get("iteration_index", 0)): task["output_parameters"]["total"] for task in counted}, dict(enumerate(expected)))
    equal({len(task["attempts"]) for task in counted}, {1})


# Loops in loops: the months of each region, of which the inner loop's number differs


@dsl.component
def regions() -> list:
    return [
        {"region": "north", "months": ["jan", "feb", "mar"]},
        {"region": "south", "months": ["jan"]},
        {"region": "west", "months": []},
    ]


@dsl.component
def extract(region: str, table: Output[Dataset]) -> int:
    with open(table.path, "w") as file:
        for month, value in (("jan", 1), ("feb", 20), ("mar", 300)):
            file.write(f"{month},{value * len(region)}\n")
    table.metadata["region"] = region
    return len(region)


@dsl.component
def clean(table: Input[Dataset], month: str, rows: Output[Dataset]):
    with open(table.path) as file, open(rows.path, "w") as out:
        out.writelines(line for line in file if line.startswith(month))
    rows.metadata.update(region=table.metadata["region"], month=month)


@dsl.component
def merge(parts: List[Dataset]) -> dict:
    found = {}
    for part in parts:
        with open(part.path) as file:
            found[f"{part.metadata['region']} {part.metadata['month']}"] = int(file.read().split(",")[1])
    return found


@dsl.pipeline(name="regions")
def by_region():
    with dsl.ParallelFor(regions().output) as region:
        table = extract(region=region.region)
        with dsl.ParallelFor(region.months) as month:
            part = clean(table=table.outputs["table"], month=month)
    merge(parts=dsl.Collected(part.outputs["rows"]))


@suite.test
def nested_loops_over_data_are_as_long_as_their_data(server, client):
    ran = Ran(server, client, by_region).ended("SUCCEEDED")
    equal(ran.output("merge"), {"north jan": 5, "north feb": 100, "north mar": 1500, "south jan": 5})
    cleaned = [task["input_parameters"]["month"] for task in ran.tasks.values() if task["name"] == "clean"]
    equal(sorted(cleaned), ["feb", "jan", "jan", "mar"])
    equal(sum(task["name"] == "extract" for task in ran.tasks.values()), 3)


# Images of one's own: no step is a component of the SDK


@dsl.container_component
def crawl(pages: int, site: Output[Artifact]):
    script = 'mkdir -p "$0" && for page in $(seq 1 "$1"); do echo "page $page of $WHERE" >"$0/$page.txt"; done'
    return dsl.ContainerSpec(image=ETL, command=["sh", "-ec", script], args=[site.path, pages])


@dsl.container_component
def index(site: Input[Artifact], words: OutputPath(dict), page: Output[Dataset]):
    program = (
        "import json, os, pathlib, sys\n"
        "site, words, page = map(pathlib.Path, sys.argv[1:])\n"
        "texts = [path.read_text().split() for path in sorted(site.iterdir())]\n"
        "words.parent.mkdir(parents=True, exist_ok=True)\n"
        "words.write_text(json.dumps({'pages': len(texts), 'words': sum(map(len, texts))}))\n"
        "page.parent.mkdir(parents=True, exist_ok=True)\n"
        "page.write_text('\\n'.join(' '.join(text) for text in texts))\n"
    )
    return dsl.ContainerSpec(image=REPORTS, command=["python3", "-c", program], args=[site.path, words, page.path])


@dsl.container_component
def find(page: Input[Dataset], text: str, lines: OutputPath(int)):
    script = 'mkdir -p "$(dirname "$2")" && grep -c "$1" "$0" >"$2"'
    return dsl.ContainerSpec(image=ETL, command=["sh", "-ec", script], args=[page.path, text, lines])


@dsl.pipeline(name="own-images")
def own_images(pages: int = 12):
    site = crawl(pages=pages).set_env_variable("WHERE", "the site")
    indexed = index(site=site.outputs["site"])
    find(page=indexed.outputs["page"], text="page 1")


@suite.test
def programs_of_unknown_images_run_with_what_the_machine_has(server, client):
    ran = Ran(server, client, own_images).ended("SUCCEEDED")
    equal(ran.output("index", "words"), {"pages": 12, "words": 12 * 5})
    # Pages 1, 10, 11 and 12.
    equal(ran.output("find", "lines"), 4)
    [site] = ran.artifacts(server, "crawl", "site")
    assert site["directory"], site
    equal([ran.tasks[name]["image"] for name in ("crawl", "index")], [ETL, REPORTS])


# A night on which the middle fails: somebody is told what, and what can go on does


@dsl.component
def pull(place: str) -> int:
    return 5


@dsl.component
def transform(rows: int) -> int:
    if rows < 10:
        raise RuntimeError(f"only {rows} rows came in the night")
    return rows


@dsl.component
def store(rows: int) -> int:
    return rows


@dsl.component
def tidy(place: str, rows: int = 0) -> str:
    with open(f"{place}/log", "a") as file:
        file.write("tidy\n")
    return "tidy"


@dsl.component
def notify(place: str, status: PipelineTaskFinalStatus) -> NamedTuple("Told", [("state", str), ("text", str), ("task", str)]):
    from collections import namedtuple

    with open(f"{place}/log", "a") as file:
        file.write("notify\n")
    return namedtuple("Told", ["state", "text", "task"])(
        status.state, status.error_message or "", status.pipeline_task_name
    )


@dsl.pipeline(name="nightly")
def nightly(place: str):
    told = notify(place=place)
    with dsl.ExitHandler(told, name="night"):
        rows = pull(place=place)
        made = transform(rows=rows.output)
        store(rows=made.output)
        tidy(place=place, rows=made.output).ignore_upstream_failure()


@suite.test
def a_failure_in_the_middle_is_told_and_what_must_be_done_is_done(server, client):
    place = folder()
    ran = Ran(server, client, nightly, {"place": str(place)}).ended("FAILED")
    states = {task["name"]: task["state"] for task in ran.tasks.values()}
    expected = {"pull": "SUCCEEDED", "transform": "FAILED", "store": "SKIPPED", "tidy": "SUCCEEDED", "notify": "SUCCEEDED"}
    equal({name: states.get(name) for name in expected}, expected)
    equal((ran.output("notify", "state"), ran.output("notify", "task")), ("FAILED", "exit-handler-1"))
    assert "only 5 rows" in ran.output("notify", "text"), ran.output("notify", "text")
    equal(lines(place), ["tidy", "notify"])
    assert "only 5 rows" in ran.run["message"], ran.run["message"]
    failed = ran.run["failed_task_id"]
    equal([task["name"] for task in ran.tasks.values() if task["task_id"] == failed], ["transform"])


# A download that works at the third try, for some of the files


@dsl.container_component
def download(place: str, file: str, failures: str, size: OutputPath(int)):
    script = (
        'echo "$1" >>"$0/log"; tried=$(grep -c "^$1\\$" "$0/log"); '
        '[ "$tried" -gt "$2" ] || { echo "connection reset by peer" >&2; exit 56; }; '
        'mkdir -p "$(dirname "$3")" && echo "$tried" >"$3"'
    )
    return dsl.ContainerSpec(image=ETL, command=["sh", "-c", script], args=[place, file, failures, size])


@dsl.pipeline(name="downloads")
def downloads(place: str, least: int = 6):
    files = [{"file": "good", "failures": "0"}, {"file": "slow", "failures": "1"}, {"file": "bad", "failures": "2"}]
    with dsl.ParallelFor(files) as one:
        got = download(place=place, file=one.file, failures=one.failures)
        got.set_retry(num_retries=2, backoff_duration="0s")
    summed = add(totals=dsl.Collected(got.outputs["size"]))
    with dsl.If(summed.outputs["total"] >= least):
        store(rows=summed.outputs["total"])


@suite.test
def a_flaky_download_is_tried_as_often_as_it_needs(server, client):
    place = folder()
    ran = Ran(server, client, downloads, {"place": str(place)}).ended("SUCCEEDED")
    got = {task["input_parameters"]["file"]: task for task in ran.tasks.values() if task["name"] == "download"}
    equal({file: len(task["attempts"]) for file, task in got.items()}, {"good": 1, "slow": 2, "bad": 3})
    equal({file: lines(place).count(file) for file in got}, {"good": 1, "slow": 2, "bad": 3})
    equal(got["bad"].get("retries"), 2)
    assert "exit code 56" in got["bad"]["attempts"][0]["message"], got["bad"]["attempts"][0]
    equal(ran.output("add", "total"), 6)
    equal([task["state"] for task in ran.tasks.values() if task["name"] == "store"], ["SUCCEEDED"])


# A pipeline of pipelines, used twice with other data


@dsl.component
def words(text: str, table: Output[Dataset]) -> int:
    with open(table.path, "w") as file:
        file.write("\n".join(text.split()))
    return len(text.split())


@dsl.component
def longest(table: Input[Dataset]) -> str:
    with open(table.path) as file:
        return max(file.read().split(), key=len)


@dsl.component
def join(left: str, right: str) -> str:
    return f"{left} {right}"


@dsl.pipeline(name="features")
def features(text: str, least: int = 3) -> NamedTuple("Features", [("table", Dataset), ("word", str)]):
    made = words(text=text)
    with dsl.If(made.outputs["Output"] > least):
        store(rows=made.outputs["Output"])
    found = longest(table=made.outputs["table"])
    return NamedTuple("Features", [("table", Dataset), ("word", str)])(table=made.outputs["table"], word=found.output)


@dsl.pipeline(name="two-sources")
def two_sources(first: str = "a river runs down to the sea", second: str = "short words") -> str:
    left, right = features(text=first), features(text=second, least=2)
    longest(table=left.outputs["table"])
    return join(left=left.outputs["word"], right=right.outputs["word"]).output


@suite.test
def a_pipeline_serves_two_others_with_its_own_data_each(server, client):
    ran = Ran(server, client, two_sources).ended("SUCCEEDED")
    equal(ran.run["outputs"], {"Output": "river short"})
    equal((ran.output("features/words"), ran.output("features-2/words")), (7, 2))
    equal((ran.state("features/condition-1"), ran.state("features-2/condition-1")), ("SUCCEEDED", "SKIPPED"))
    assert "least = 2" in ran.message("features-2/condition-1"), ran.message("features-2/condition-1")
    equal(ran.output("longest"), "river")


# One step is edited; what does not depend on it is not run again


def edited(tail):
    """The same pipeline with another program in its third step."""

    @dsl.container_component
    def stage(place: str, name: str, after: str, value: OutputPath(str)):
        script = 'echo "$1" >>"$0/log" && mkdir -p "$(dirname "$3")" && printf %s "$2$1" >"$3"'
        return dsl.ContainerSpec(image=ETL, command=["sh", "-ec", script], args=[place, name, after, value])

    @dsl.container_component
    def middle(place: str, after: str, value: OutputPath(str)):
        script = f'echo middle >>"$0/log" && mkdir -p "$(dirname "$2")" && printf %s "$1{tail}" >"$2"'
        return dsl.ContainerSpec(image=ETL, command=["sh", "-ec", script], args=[place, after, value])

    @dsl.pipeline(name="edited")
    def pipeline(place: str):
        first = stage(place=place, name="first", after="")
        side = stage(place=place, name="side", after=first.outputs["value"])
        made = middle(place=place, after=first.outputs["value"])
        last = stage(place=place, name="last", after=made.outputs["value"])
        stage(place=place, name="apart", after=side.outputs["value"])
        for task in (first, side, made, last):
            task.set_caching_options(True)

    return pipeline


@suite.test
def an_edit_of_one_step_runs_it_and_what_follows(server, client):
    place = folder()
    for tail, ran_now in (("-one", ["apart", "first", "last", "middle", "side"]), ("-one", []), ("-two", ["last", "middle"])):
        before = lines(place)
        ran = Ran(server, client, edited(tail), {"place": str(place)}, caching=True).ended("SUCCEEDED")
        equal(sorted(lines(place)[len(before) :]), ran_now, tail)
        states = {ran.input(path, "name") if "stage" in path else "middle": ran.state(path) for path in ran.tasks if path}
        cached = sorted(name for name, state in states.items() if state == "CACHED")
        equal(cached, sorted({"apart", "first", "last", "middle", "side"} - set(ran_now)))
        last = next(path for path in ran.tasks if "stage" in path and ran.input(path, "name") == "last")
        equal(ran.output(last, "value"), f"first{tail}last")


def main():
    sys.stdout = open(os.devnull, "w")
    with suite.guard("the server"), Server() as server:
        suite.run(server, kfp.Client(host=server.url), workers=4)
    suite.close()


if __name__ == "__main__":
    main()
