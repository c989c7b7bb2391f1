"""Pipelines that show the run page something, and the report that attacks it."""

import pathlib
import tempfile

import yaml
from kfp import compiler, dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Output

PYTHON = "python:3.11"
TICKS = 60

# Each attack says what it learned; nothing but "nothing" may come of it. One line, since kfp writes defaults into a comment.
ATTACKS = """<!doctype html><body><p>A report</p><script>
window.learned = {}; window.done = false;
const host = document.referrer ? new URL(document.referrer).origin : location.href.replace(/^(https?:..[^/]*).*/, "$1");
const path = "/apis/v2beta1/runs";
const attempts = {
  fetch: async () => (await fetch(path)).status,
  absolute: async () => (await fetch(host + path, { mode: "no-cors" })).type,
  post: async () => (await fetch(host + path, { method: "POST", mode: "no-cors", body: "{}" })).type,
  xhr: () => new Promise((yes, no) => { const x = new XMLHttpRequest(); x.onload = () => yes(x.status); x.onerror = no; x.open("GET", host + path); x.send(); }),
  image: () => new Promise((yes, no) => { const i = new Image(); i.onload = yes; i.onerror = no; i.src = host + "/page.css"; }),
  script: () => new Promise((yes, no) => { const s = document.createElement("script"); s.onload = yes; s.onerror = no; s.src = host + "/page.js"; document.head.append(s); }),
  socket: () => new Promise((yes, no) => { const w = new WebSocket(host.replace("http", "ws")); w.onopen = yes; w.onerror = no; }),
  events: () => new Promise((yes, no) => { const e = new EventSource(host + path); e.onopen = yes; e.onerror = no; }),
  frame: () => new Promise((yes, no) => { const f = document.createElement("iframe"); f.onload = () => { try { yes(f.contentDocument.body.innerHTML.length || no()); } catch (error) { no(error); } }; f.src = host + path; document.body.append(f); setTimeout(no, 2000); }),
  parent: async () => parent.document.title,
  storage: async () => sessionStorage.length + localStorage.length,
  cookie: async () => document.cookie + "readable",
  popup: async () => { const w = open(host); if (!w) throw new Error(); return "opened"; },
  top: async () => { top.location.href = host + "/livez"; return "went"; },
  form: async () => { const f = document.createElement("form"); f.action = host + path; f.method = "POST"; f.target = "_top"; document.body.append(f); f.submit(); throw new Error(); },
};
(async () => {
  for (const [name, attempt] of Object.entries(attempts)) {
    try { window.learned[name] = String(await attempt()); } catch (error) { window.learned[name] = "nothing"; }
  }
  window.done = true;
})();
</script></body>""".replace("\n", " ")


@dsl.component(base_image=PYTHON)
def load(rows: int, data: Output[Dataset]):
    with open(data.path, "w") as file:
        file.write("\n".join(f"{row},{row * 2}" for row in range(rows)))
    data.metadata["rows"] = rows


@dsl.component(base_image=PYTHON)
def train(data: Input[Dataset], rate: float) -> float:
    print("reading", data.path, flush=True)
    if rate > 1:
        raise ValueError(f"learning rate {rate} is too high: the loss is nan")
    return 0.9


@dsl.component(base_image=PYTHON)
def publish(accuracy: float) -> str:
    return f"published {accuracy}"


@dsl.pipeline(name="prepare")
def prepare(rows: int) -> Dataset:
    return load(rows=rows).outputs["data"]


@dsl.pipeline(name="failing")
def failing(rows: int = 100, rate: float = 5.0):
    trained = train(data=prepare(rows=rows).output, rate=rate)
    trained.set_memory_limit("512Mi").set_cpu_request("500m")
    publish(accuracy=trained.output)


@dsl.component(base_image=PYTHON)
def evaluate(
    attack: str,
    metrics: Output[Metrics],
    roc: Output[ClassificationMetrics],
    matrix: Output[ClassificationMetrics],
    report: Output[HTML],
    notes: Output[Markdown],
):
    metrics.log_metric("accuracy", 0.934)
    metrics.log_metric("loss", 0.0731)
    rates = [step / 20 for step in range(21)]
    roc.log_roc_curve(rates, [rate**0.25 for rate in rates], [1 - rate for rate in rates])
    matrix.log_confusion_matrix(["setosa", "versicolor", "virginica"], [[48, 2, 0], [1, 45, 4], [0, 3, 47]])
    open(report.path, "w").write(attack)
    open(notes.path, "w").write("# Notes\n\nThe model is **good**.\n\n| class | n |\n|---|---|\n| setosa | 50 |\n")


@dsl.pipeline(name="measured")
def measured(attack: str = ATTACKS):
    evaluate(attack=attack)


@dsl.container_component
def ticks(count: int):
    program = (
        "import sys, time\n"
        "for tick in range(int(sys.argv[1])):\n"
        "    print('tick', tick, f'{time.time():.6f}', flush=True)\n"
        "    time.sleep(0.1)\n"
    )
    return dsl.ContainerSpec(image=PYTHON, command=["python3", "-c", program], args=[count])


@dsl.pipeline(name="printer")
def printer():
    ticks(count=TICKS)


@dsl.container_component
def fit(value: int):
    return dsl.ContainerSpec(image=PYTHON, command=["sh", "-c", "[ $0 != 7 ] || { echo no convergence; exit 4; }"], args=[value])


@dsl.container_component
def score(value: int):
    return dsl.ContainerSpec(image=PYTHON, command=["echo"], args=[value])


@dsl.pipeline(name="looping")
def looping(limit: int = 3):
    with dsl.ParallelFor(items=list(range(12)), parallelism=4) as item:
        fitted = fit(value=item)
        score(value=item).after(fitted)
    with dsl.If(limit > 5):
        score(value=limit)


@dsl.container_component
def download(mark: str):
    """Fails until somebody tried once."""
    script = '[ -e "$0" ] || { touch "$0"; echo "connection reset by peer"; exit 56; }'
    return dsl.ContainerSpec(image=PYTHON, command=["sh", "-c", script], args=[mark])


@dsl.pipeline(name="healing")
def healing(mark: str):
    download(mark=mark)


@dsl.pipeline(name="patient")
def patient(mark: str):
    """Its second attempt is ten minutes away."""
    download(mark=mark).set_retry(num_retries=1, backoff_duration="600s")


@dsl.container_component
def work():
    return dsl.ContainerSpec(image=PYTHON, command=["sleep", "600"])


@dsl.container_component
def clean_up():
    return dsl.ContainerSpec(image=PYTHON, command=["sleep", "601"])


@dsl.pipeline(name="guarded")
def guarded():
    """Neither what it does nor what cleans up after it ends by itself."""
    with dsl.ExitHandler(clean_up()):
        work()


def compiled(pipeline):
    """The specification as the API takes it."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return yaml.safe_load(path.read_text())


def large(count):
    """Many programs that do nothing, in rows of which each waits for the one before."""
    tasks = {}
    for number in range(count):
        task = {"componentRef": {"name": "comp-nothing"}, "taskInfo": {"name": f"step-{number:04}"}, "cachingOptions": {}}
        if number >= 20:
            task["dependentTasks"] = [f"step-{number - 20:04}"]
        tasks[f"step-{number:04}"] = task
    return {
        "pipelineInfo": {"name": "large"},
        "schemaVersion": "2.1.0",
        "sdkVersion": "kfp-2.17.0",
        "root": {"dag": {"tasks": tasks}},
        "components": {"comp-nothing": {"executorLabel": "exec-nothing"}},
        "deploymentSpec": {"executors": {"exec-nothing": {"container": {"image": PYTHON, "command": ["true"]}}}},
    }
