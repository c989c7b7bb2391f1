# python: kfp-2.17
"""The pipeline of the demo, as its program submits it: it ends well, its numbers are plausible, the better model wins."""

import pathlib
import pickle
import subprocess
import sys

from _harness import ROOT, Server, Suite, equal

PROGRAM = ROOT / "examples/pipelines/breast_cancer.py"
# Rows of scikit-learn's data set, and of the quarter that is kept for the test.
ROWS = 569
TEST_ROWS = 143
# By the kind of model: the tasks that train and evaluate it.
MODELS = {
    "logistic regression": ("train-logistic", "evaluate"),
    "random forest of 100 trees": ("train-forest", "evaluate-2"),
}
suite = Suite()


def submit(server):
    """Runs the example's own program against the server; the id of the run that it prints."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--host", server.url], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [run_id] = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("run ")]
    return run_id


def checks(server, run, tasks):
    def artifact(task, output):
        [found] = tasks[task]["output_artifacts"][output]["ids"]
        return server.artifact(found)

    def scores():
        """By the kind of model."""
        return {kind: artifact(evaluated, "metrics")["metadata"] for kind, (_, evaluated) in MODELS.items()}

    @suite.test
    def the_run_succeeds():
        equal(run["state"], "SUCCEEDED", run.get("message"))
        equal({task["state"] for task in tasks.values()}, {"SUCCEEDED"})
        equal([len(task["attempts"]) for task in tasks.values() if task.get("attempts")], [1] * 8, "attempts")

    @suite.test
    def people_see_the_names_that_the_example_gives():
        found = server.get(f"/apis/v2beta1/runs/{run['run_id']}")["run_details"]["task_details"]
        names = {task["display_name"] for task in found}
        assert {"evaluate-logistic", "evaluate-forest"} <= names, names

    @suite.test
    def the_data_is_whole():
        equal(artifact("load", "table")["metadata"]["rows"], ROWS)
        report = artifact("validate", "report")["metadata"]
        equal((report["rows"], report["missing_values"], report["classes"]), (ROWS, 0, 2))
        equal(artifact("split", "test")["metadata"]["rows"], TEST_ROWS)
        equal(artifact("split", "train")["metadata"]["rows"], ROWS - TEST_ROWS)

    @suite.test
    def both_models_are_good_and_not_too_good():
        # Whoever guesses the larger class is right in 63 of 100 cases.
        for kind, found in scores().items():
            assert 0.9 < found["accuracy"] <= 1.0, (kind, found)
            assert 0.95 < found["auc"] <= 1.0, (kind, found)

    @suite.test
    def what_was_measured_is_what_later_steps_got():
        for kind, (_, task) in MODELS.items():
            values = tasks[task]["output_parameters"]
            equal(values["auc"], scores()[kind]["auc"], kind)
            equal(values["accuracy"], scores()[kind]["accuracy"], kind)

    @suite.test
    def the_curves_are_kept():
        for _, task in MODELS.values():
            curves = artifact(task, "curves")["metadata"]
            rows = curves["confusionMatrix"]["rows"]
            equal(sum(sum(row["row"]) for row in rows), TEST_ROWS, task)
            points = curves["confidenceMetrics"]
            assert all(0 <= point["recall"] <= 1 for point in points), task

    @suite.test
    def the_better_model_is_picked():
        found = scores()
        best = max(found, key=lambda kind: found[kind]["auc"])
        equal(run["outputs"], {"Output": best})
        picked = artifact("pick", "best")
        equal(picked["metadata"]["kind"], best)
        equal(picked["metadata"]["auc"], found[best]["auc"])
        trained = artifact(MODELS[best][0], "model")
        files = [pathlib.Path(one["uri"]).read_bytes() for one in (picked, trained)]
        assert files[0] == files[1], "the picked file is another model"
        summary = artifact("pick", "summary")["metadata"]
        equal(summary["best_auc"], found[best]["auc"])
        auc = [one["auc"] for one in found.values()]
        assert abs(summary["margin"] - abs(auc[0] - auc[1])) < 1e-9, summary

    @suite.test
    def the_picked_model_is_a_model():
        model = pickle.loads(pathlib.Path(artifact("pick", "best")["uri"]).read_bytes())
        assert hasattr(model, "predict_proba"), type(model)


def main():
    with suite.guard("the example runs"), Server() as server:
        run = server.wait(submit(server), 420)
        checks(server, run, server.tasks(run["run_id"]))
        suite.run()
    suite.close()


if __name__ == "__main__":
    main()
