"""Breast cancer classification with the kfp SDK: load, validate, split, train two models, evaluate, pick the better.

The data set is scikit-learn's own, so nothing is downloaded but packages.

    python breast_cancer.py --host http://127.0.0.1:8080      compile, submit, print `run ID`
    python breast_cancer.py --compile breast_cancer.yaml      only compile
"""

import argparse
from typing import NamedTuple

from kfp import Client, compiler, dsl
from kfp.dsl import ClassificationMetrics, Dataset, Input, Metrics, Model, Output

PACKAGES = ["scikit-learn==1.9.1", "pandas==3.1.1"]


@dsl.component(packages_to_install=PACKAGES)
def load(table: Output[Dataset]):
    """Writes the data set as CSV."""
    from sklearn.datasets import load_breast_cancer

    frame = load_breast_cancer(as_frame=True).frame
    frame.to_csv(table.path, index=False)
    table.metadata["rows"] = len(frame)
    table.metadata["columns"] = len(frame.columns)
    print(f"{len(frame)} rows, {len(frame.columns)} columns")


@dsl.component(packages_to_install=PACKAGES)
def validate(table: Input[Dataset], least_rows: int, report: Output[Metrics]) -> int:
    """Fails when the table is too small, has gaps or has one class only; returns the number of rows."""
    import pandas

    frame = pandas.read_csv(table.path)
    gaps = int(frame.isna().sum().sum())
    classes = int(frame["target"].nunique())
    report.log_metric("rows", len(frame))
    report.log_metric("missing_values", gaps)
    report.log_metric("classes", classes)
    if len(frame) < least_rows:
        raise ValueError(f"{len(frame)} rows are fewer than {least_rows}")
    if gaps or classes != 2:
        raise ValueError(f"{gaps} missing values, {classes} classes")
    return len(frame)


@dsl.component(packages_to_install=PACKAGES)
def split(
    table: Input[Dataset],
    rows: int,
    test_fraction: float,
    seed: int,
    train: Output[Dataset],
    test: Output[Dataset],
):
    """Splits by class, so that both parts have the same proportions."""
    import pandas
    from sklearn.model_selection import train_test_split

    frame = pandas.read_csv(table.path)
    assert len(frame) == rows, "the table changed after it was validated"
    parts = train_test_split(frame, test_size=test_fraction, random_state=seed, stratify=frame["target"])
    for output, part in zip((train, test), parts):
        part.to_csv(output.path, index=False)
        output.metadata["rows"] = len(part)
        print(f"{output.name}: {len(part)} rows")


@dsl.component(packages_to_install=PACKAGES)
def train_logistic(train: Input[Dataset], model: Output[Model], strength: float = 1.0):
    """Logistic regression on scaled columns."""
    import pickle

    import pandas
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame = pandas.read_csv(train.path)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    fitted.fit(frame.drop(columns="target"), frame["target"])
    with open(model.path, "wb") as file:
        pickle.dump(fitted, file)
    model.metadata["framework"] = "scikit-learn"
    model.metadata["kind"] = "logistic regression"


@dsl.component(packages_to_install=PACKAGES)
def train_forest(train: Input[Dataset], model: Output[Model], trees: int = 100, seed: int = 0):
    """A random forest."""
    import pickle

    import pandas
    from sklearn.ensemble import RandomForestClassifier

    frame = pandas.read_csv(train.path)
    fitted = RandomForestClassifier(n_estimators=trees, random_state=seed)
    fitted.fit(frame.drop(columns="target"), frame["target"])
    with open(model.path, "wb") as file:
        pickle.dump(fitted, file)
    model.metadata["framework"] = "scikit-learn"
    model.metadata["kind"] = f"random forest of {trees} trees"


@dsl.component(packages_to_install=PACKAGES)
def evaluate(
    model: Input[Model],
    test: Input[Dataset],
    metrics: Output[Metrics],
    curves: Output[ClassificationMetrics],
) -> NamedTuple("Scores", [("accuracy", float), ("auc", float)]):
    """Scores a model on rows that it has not seen."""
    import pickle
    from collections import namedtuple

    import pandas
    from sklearn.metrics import accuracy_score, confusion_matrix, roc_auc_score, roc_curve

    frame = pandas.read_csv(test.path)
    columns, truth = frame.drop(columns="target"), frame["target"]
    with open(model.path, "rb") as file:
        fitted = pickle.load(file)
    guess = fitted.predict(columns)
    chance = fitted.predict_proba(columns)[:, 1]
    accuracy = float(accuracy_score(truth, guess))
    auc = float(roc_auc_score(truth, chance))
    metrics.log_metric("accuracy", accuracy)
    metrics.log_metric("auc", auc)
    false_positive, true_positive, threshold = roc_curve(truth, chance)
    # The first threshold is infinite, which JSON cannot say.
    curves.log_roc_curve(false_positive.tolist(), true_positive.tolist(), [min(t, 1.0) for t in threshold.tolist()])
    curves.log_confusion_matrix(["malignant", "benign"], confusion_matrix(truth, guess).tolist())
    print(f"accuracy {accuracy:.4f}, area under the curve {auc:.4f}")
    return namedtuple("Scores", ["accuracy", "auc"])(accuracy, auc)


@dsl.component(packages_to_install=PACKAGES)
def pick(
    first: Input[Model],
    second: Input[Model],
    first_auc: float,
    second_auc: float,
    best: Output[Model],
    summary: Output[Metrics],
) -> str:
    """Copies the model with the larger area under the curve; returns what it is."""
    import shutil

    winner, auc = (first, first_auc) if first_auc >= second_auc else (second, second_auc)
    shutil.copyfile(winner.path, best.path)
    best.metadata.update(winner.metadata)
    best.metadata["auc"] = auc
    summary.log_metric("best_auc", auc)
    summary.log_metric("margin", abs(first_auc - second_auc))
    print(f"the better model is a {winner.metadata['kind']} with {auc:.4f}")
    return winner.metadata["kind"]


@dsl.pipeline(name="breast-cancer", description="Two models on scikit-learn's data; the better one wins.")
def breast_cancer(least_rows: int = 500, test_fraction: float = 0.25, trees: int = 100, seed: int = 7) -> str:
    loaded = load()
    checked = validate(table=loaded.outputs["table"], least_rows=least_rows)
    parts = split(
        table=loaded.outputs["table"],
        rows=checked.outputs["Output"],
        test_fraction=test_fraction,
        seed=seed,
    )
    logistic = train_logistic(train=parts.outputs["train"])
    forest = train_forest(train=parts.outputs["train"], trees=trees, seed=seed)
    scores = [
        evaluate(model=trained.outputs["model"], test=parts.outputs["test"]).set_display_name(name)
        for trained, name in ((logistic, "evaluate-logistic"), (forest, "evaluate-forest"))
    ]
    picked = pick(
        first=logistic.outputs["model"],
        second=forest.outputs["model"],
        first_auc=scores[0].outputs["auc"],
        second_auc=scores[1].outputs["auc"],
    )
    return picked.outputs["Output"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="http://127.0.0.1:8080")
    parser.add_argument("--compile", metavar="FILE", help="write the compiled pipeline and stop")
    args = parser.parse_args()
    if args.compile:
        compiler.Compiler().compile(breast_cancer, args.compile)
        return
    client = Client(host=args.host)
    run = client.create_run_from_pipeline_func(breast_cancer, arguments={}, enable_caching=False)
    print(f"run {run.run_id}")


if __name__ == "__main__":
    main()
