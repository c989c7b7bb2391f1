# python: kfp-2.17
"""Models as people train them: scikit-learn over a grid, XGBoost with its curves, and cross-validation."""

import base64
import os
import sys
from typing import List, NamedTuple

from _flow import Ran
from _harness import Server, Suite, equal
import kfp
from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Model, Output

SKLEARN = ["scikit-learn==1.9.1"]
XGBOOST = ["scikit-learn==1.9.1", "xgboost-cpu==3.2.0"]
DEPTHS, LEAVES = [1, 4], [2, 10]
FOLDS = 3
suite = Suite()


# A grid of two dimensions, of which the best is put to use if it is good enough


@dsl.component(packages_to_install=SKLEARN)
def load(train: Output[Dataset], test: Output[Dataset]) -> int:
    """Scikit-learn's own table of tumours, in two parts."""
    import pickle

    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    columns, truth = load_breast_cancer(return_X_y=True)
    parts = train_test_split(columns, truth, test_size=0.3, random_state=7, stratify=truth)
    for output, rows, labels in ((train, parts[0], parts[2]), (test, parts[1], parts[3])):
        with open(output.path, "wb") as file:
            pickle.dump((rows, labels), file)
        output.metadata["rows"] = len(rows)
    return len(columns)


@dsl.component(packages_to_install=SKLEARN)
def fit(train: Input[Dataset], test: Input[Dataset], depth: int, leaf: int, model: Output[Model]) -> dict:
    import pickle

    from sklearn.metrics import roc_auc_score
    from sklearn.tree import DecisionTreeClassifier

    with open(train.path, "rb") as file:
        rows, labels = pickle.load(file)
    tree = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=leaf, random_state=7).fit(rows, labels)
    with open(test.path, "rb") as file:
        rows, labels = pickle.load(file)
    auc = float(roc_auc_score(labels, tree.predict_proba(rows)[:, 1]))
    with open(model.path, "wb") as file:
        pickle.dump(tree, file)
    model.metadata["auc"] = auc
    return {"depth": depth, "leaf": leaf, "auc": auc}


@dsl.component
def choose(scores: list, models: List[Model], best: Output[Model]) -> NamedTuple("Best", [("auc", float), ("depth", int)]):
    """The scores are a list of lists, as the loops are nested; the models are one list."""
    import shutil
    from collections import namedtuple

    flat = [score for row in scores for score in row]
    assert [score["auc"] for score in flat] == [model.metadata["auc"] for model in models], "scores and models differ"
    at = max(range(len(flat)), key=lambda one: flat[one]["auc"])
    shutil.copyfile(models[at].path, best.path)
    best.metadata.update(models[at].metadata)
    return namedtuple("Best", ["auc", "depth"])(flat[at]["auc"], flat[at]["depth"])


@dsl.component(packages_to_install=SKLEARN)
def deploy(model: Input[Model], test: Input[Dataset]) -> int:
    """Whether the model can be read where it is put to use."""
    import pickle

    with open(model.path, "rb") as file:
        tree = pickle.load(file)
    with open(test.path, "rb") as file:
        rows, _ = pickle.load(file)
    return len(tree.predict(rows))


@dsl.component
def reject(auc: float, least: float) -> str:
    return f"{auc:.3f} is less than {least}"


@dsl.pipeline(name="tuning")
def tuning(least: float = 0.9):
    data = load()
    with dsl.ParallelFor(DEPTHS) as depth:
        with dsl.ParallelFor(LEAVES) as leaf:
            fitted = fit(train=data.outputs["train"], test=data.outputs["test"], depth=depth, leaf=leaf)
            # What the client is told about the cache holds for tasks of the outermost level only.
            fitted.set_caching_options(True)
    chosen = choose(scores=dsl.Collected(fitted.outputs["Output"]), models=dsl.Collected(fitted.outputs["model"]))
    with dsl.If(chosen.outputs["auc"] > least):
        deploy(model=chosen.outputs["best"], test=data.outputs["test"])
    with dsl.Else():
        reject(auc=chosen.outputs["auc"], least=least)


def only(ran, name):
    """The path of the one task of that name."""
    [found] = [path for path, task in ran.tasks.items() if task["name"] == name]
    return found


@suite.test
def the_best_of_a_grid_is_deployed_when_it_is_good_enough(server, client):
    ran = Ran(server, client, tuning, caching=True).ended("SUCCEEDED")
    fits = {path: task for path, task in ran.tasks.items() if task["name"] == "fit"}
    tried = [(task["input_parameters"]["depth"], task["input_parameters"]["leaf"]) for task in fits.values()]
    equal(sorted(tried), [(depth, leaf) for depth in DEPTHS for leaf in LEAVES])
    scores = [task["output_parameters"]["Output"] for task in fits.values()]
    for task in fits.values():
        given, told = task["input_parameters"], task["output_parameters"]["Output"]
        equal((told["depth"], told["leaf"]), (given["depth"], given["leaf"]), task["path"])
    best = max(score["auc"] for score in scores)
    equal((ran.output("choose", "auc"), ran.output("choose", "depth")), (best, 4))
    [model] = ran.artifacts(server, "choose", "best")
    equal(model["metadata"]["auc"], best)
    equal(ran.output(only(ran, "deploy")), 171)
    assert not any(task["name"] == "reject" for task in ran.tasks.values())

    # The grid is known, and another bar turns the decision.
    again = Ran(server, client, tuning, {"least": 0.999}, caching=True).ended("SUCCEEDED")
    known = {path: task for path, task in again.tasks.items() if task["name"] in ("load", "fit", "choose")}
    equal({path: (task["state"], task.get("cache")) for path, task in known.items() if task["state"] != "CACHED"}, {})
    equal(again.tasks["load"]["cache"]["source_run_id"], ran.id)
    equal(again.output(only(again, "reject")), f"{best:.3f} is less than 0.999")
    [skipped] = [task for task in again.tasks.values() if task["state"] == "SKIPPED"]
    equal(skipped["reason"], "CONDITION_FALSE")
    assert "auc > 0.999" in skipped["message"] or "least = 0.999" in skipped["message"], skipped["message"]


# XGBoost, with everything that there is to see


@dsl.component(packages_to_install=XGBOOST)
def boost(rounds: int, model: Output[Model], metrics: Output[Metrics]) -> float:
    import xgboost
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    columns, truth = load_breast_cancer(return_X_y=True)
    rows, _, labels, _ = train_test_split(columns, truth, test_size=0.3, random_state=7, stratify=truth)
    told = {}
    table = xgboost.DMatrix(rows, labels)
    settings = {"objective": "binary:logistic", "max_depth": 3, "eval_metric": "logloss", "nthread": 1, "seed": 7}
    fitted = xgboost.train(settings, table, rounds, evals=[(table, "train")], evals_result=told, verbose_eval=False)
    fitted.save_model(model.path + ".json")
    import os

    os.replace(model.path + ".json", model.path)
    losses = told["train"]["logloss"]
    assert losses == sorted(losses, reverse=True), "the loss grew"
    metrics.log_metric("loss", losses[-1])
    model.metadata["rounds"] = fitted.num_boosted_rounds()
    return losses[-1]


@dsl.component(packages_to_install=XGBOOST)
def report(
    model: Input[Model],
    curve: Output[ClassificationMetrics],
    matrix: Output[ClassificationMetrics],
    page: Output[HTML],
    notes: Output[Markdown],
) -> NamedTuple("Found", [("auc", float), ("wrong", int)]):
    import shutil
    from collections import namedtuple

    import xgboost
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve
    from sklearn.model_selection import train_test_split

    columns, truth = load_breast_cancer(return_X_y=True)
    _, rows, _, labels = train_test_split(columns, truth, test_size=0.3, random_state=7, stratify=truth)
    shutil.copyfile(model.path, "model.json")
    fitted = xgboost.Booster(model_file="model.json")
    chance = fitted.predict(xgboost.DMatrix(rows))
    auc = float(roc_auc_score(labels, chance))
    false_positive, true_positive, threshold = roc_curve(labels, chance)
    curve.log_roc_curve(
        false_positive.tolist(), true_positive.tolist(), [min(float(one), 1.0) for one in threshold]
    )
    table = confusion_matrix(labels, chance > 0.5).tolist()
    matrix.log_confusion_matrix(["malignant", "benign"], table)
    wrong = table[0][1] + table[1][0]
    with open(page.path, "w") as file:
        file.write(f"<h1>{wrong} of {len(labels)} wrong</h1>")
    with open(notes.path, "w") as file:
        file.write(f"# Result\n\nArea under the curve: **{auc:.3f}**\n")
    return namedtuple("Found", ["auc", "wrong"])(auc, wrong)


@dsl.pipeline(name="boosting")
def boosting(rounds: int = 30) -> NamedTuple("Result", [("auc", float), ("wrong", int)]):
    found = report(model=boost(rounds=rounds).outputs["model"])
    return NamedTuple("Result", [("auc", float), ("wrong", int)])(auc=found.outputs["auc"], wrong=found.outputs["wrong"])


@suite.test
def boosted_trees_leave_curves_a_matrix_and_reports(server, client):
    ran = Ran(server, client, boosting).ended("SUCCEEDED")
    auc, wrong = ran.run["outputs"]["auc"], ran.run["outputs"]["wrong"]
    assert auc > 0.97 and 0 <= wrong < 17, (auc, wrong)
    [model] = ran.artifacts(server, "boost", "model")
    equal((model["type"], model["metadata"]["rounds"]), ("system.Model", 30))
    [metrics] = ran.artifacts(server, "boost", "metrics")
    equal(metrics["metadata"]["loss"], ran.output("boost"))

    [curve] = ran.artifacts(server, "report", "curve")
    points = curve["metadata"]["confidenceMetrics"]
    equal((points[0]["falsePositiveRate"], points[-1]["recall"]), (0, 1))
    # The area below the points is what the step said.
    area = sum(
        (right["falsePositiveRate"] - left["falsePositiveRate"]) * (right["recall"] + left["recall"]) / 2
        for left, right in zip(points, points[1:])
    )
    assert abs(area - auc) < 1e-6, (area, auc)
    [matrix] = ran.artifacts(server, "report", "matrix")
    rows = [row["row"] for row in matrix["metadata"]["confusionMatrix"]["rows"]]
    equal((sum(map(sum, rows)), rows[0][1] + rows[1][0]), (171, wrong))
    for name, kind, words in (("page", "system.HTML", f"<h1>{wrong} of 171 wrong</h1>"), ("notes", "system.Markdown", f"**{auc:.3f}**")):
        [found] = ran.artifacts(server, "report", name)
        equal(found["type"], kind)
        path = f"/apis/v2beta1/runs/{ran.id}/nodes/{ran.tasks['report']['task_id']}/artifacts/{name}:read"
        content = base64.b64decode(server.get(path)["data"]).decode()
        assert words in content, content


# Cross-validation: a fold is an iteration, and artifacts of all folds meet again


@dsl.component(packages_to_install=SKLEARN)
def fold(number: int, folds: int, scores: Output[Metrics], predictions: Output[Dataset]):
    import csv

    from sklearn.datasets import load_iris
    from sklearn.model_selection import StratifiedKFold
    from sklearn.neighbors import KNeighborsClassifier

    rows, labels = load_iris(return_X_y=True)
    parts = list(StratifiedKFold(folds, shuffle=True, random_state=7).split(rows, labels))
    train, test = parts[number]
    model = KNeighborsClassifier(5).fit(rows[train], labels[train])
    found = model.predict(rows[test])
    scores.log_metric("accuracy", float((found == labels[test]).mean()))
    with open(predictions.path, "w") as file:
        csv.writer(file).writerows(zip(test.tolist(), labels[test].tolist(), found.tolist()))


@dsl.component
def average(scores: List[Metrics], predictions: List[Dataset], summary: Output[Metrics]) -> NamedTuple(
    "Mean", [("mean", float), ("rows", int), ("right", int)]
):
    import csv
    from collections import namedtuple

    seen = {}
    for one in predictions:
        with open(one.path) as file:
            seen.update({row: truth == guess for row, truth, guess in csv.reader(file)})
    values = [one.metadata["accuracy"] for one in scores]
    summary.log_metric("folds", len(values))
    mean = sum(values) / len(values)
    return namedtuple("Mean", ["mean", "rows", "right"])(mean, len(seen), sum(seen.values()))


@dsl.pipeline(name="cross-validation")
def cross_validation(folds: int = FOLDS):
    with dsl.ParallelFor(list(range(FOLDS)), parallelism=2) as number:
        one = fold(number=number, folds=folds)
    average(scores=dsl.Collected(one.outputs["scores"]), predictions=dsl.Collected(one.outputs["predictions"]))


@suite.test
def the_folds_of_a_cross_validation_meet_again(server, client):
    ran = Ran(server, client, cross_validation).ended("SUCCEEDED")
    folds = [path for path, task in ran.tasks.items() if task["name"] == "fold"]
    equal(sorted(ran.input(path, "number") for path in folds), list(range(FOLDS)))
    values = [ran.artifacts(server, path, "scores")[0]["metadata"]["accuracy"] for path in folds]
    # Each row of the table was left out once, and the folds are of one size.
    equal(ran.output("average", "rows"), 150)
    assert abs(ran.output("average", "mean") - sum(values) / FOLDS) < 1e-9, values
    assert abs(ran.output("average", "right") / 150 - sum(values) / FOLDS) < 1e-9, values
    equal(ran.artifacts(server, "average", "summary")[0]["metadata"]["folds"], FOLDS)


def main():
    sys.stdout = open(os.devnull, "w")
    with suite.guard("the server"), Server() as server:
        suite.run(server, kfp.Client(host=server.url), workers=3)
    suite.close()


if __name__ == "__main__":
    main()
