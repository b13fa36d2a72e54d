"""Made-up figures of the smallest study, and runs of it that are kept: for tests that run no job."""

from __future__ import annotations

import json
from zlib import crc32

import numpy as np
import pandas as pd

from onetok.spread.kept import KeptRun, KeptScore, chains, key_of, score_artefacts, scores_of, write_run
from onetok.study import metric_names
from onetok.study.load import load_study
from onetok.study.plan import all_jobs

TABLE = "generation/class-conditional"
TRAINED = {"fid": 2.0, "fid_second": 2.5, "inception_score": 7.5, "precision": 0.9, "recall": 0.6}
TRAINED |= {"accuracy": 0.98, "accuracy_second": 0.97, "distinct": 19, "memorised": 0.1}
UNTRAINED = {"fid": 70.0, "fid_second": 50.0, "inception_score": 2.0, "precision": 0.3, "recall": 0.5}
UNTRAINED |= {"accuracy": 0.1, "accuracy_second": 0.1, "distinct": 20, "memorised": 0.0}
BY_SCALE = {"exact": 16.0, "share": 0.5, "count": 19.0, "ratio": 1.0, "real": 0.7}
OTHERS = {metric: BY_SCALE[metric_names.measure(metric).scale] for metric in metric_names.ALL} | {
    "images": 20.0
}


def figures(artefact):
    return OTHERS | (UNTRAINED if artefact.name == "maskgit/untrained" else TRAINED)


def write_tables(study, directory, top, changed=None):
    """Write every table; `changed` holds {(label, metric): value} for TABLE."""
    for name, table in study.tables.items():
        records = []
        for row in table.rows:
            known = figures(scores_of(row))
            record = {column.metric: float(known[column.metric]) for column in table.columns}
            records.append({"label": row.label, **record})
        frame = pd.DataFrame(records)
        for (label, metric), value in (changed or {}).items() if name == TABLE else ():
            frame[metric] = frame[metric].astype(object).where(frame["label"] != label, value)
        path = directory / top / "tables" / name / "table.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(path, index=False)


def normal(run, artefact, metric):
    """Return a number of a standard normal distribution that no other run, artefact or metric changes."""
    return np.random.default_rng([run, crc32(f"{key_of(artefact)} {metric}".encode())]).standard_normal()


def keep_runs(study, directory, count):
    """Keep runs whose figures spread by a few parts in a hundred on their scales."""
    digests = chains(study)
    for number in range(count):
        run = study.spreads["spread/retraining"].runs[number]
        scores = {}
        for artefact in score_artefacts(study):
            moved = {
                metric: value
                if metric_names.measure(metric).scale in ("exact", "count")
                else float(
                    min(
                        value * np.exp(0.03 * normal(number, artefact, metric)), 1.0 if value <= 1 else np.inf
                    )
                )
                for metric, value in figures(artefact).items()
            }
            scores[key_of(artefact)] = KeptScore(chain=digests[artefact], machine="m", figures=moved)
        write_run(directory, KeptRun(run=run, machines={"m": {}}, scores=scores))


def six_runs(directory):
    """Give a copy of the smallest study six runs in params, evidence and kept figures, and return it."""
    path = directory / "params/benchmarks/spread.yaml"
    lines = [f"        - {{name: r{i}, seed_offset: {i}, instructions: native}}\n" for i in range(6)]
    path.write_text(path.read_text().split("        - {")[0] + "".join(lines))
    study = load_study(directory)
    write_tables(study, directory, "evidence")
    for artefact in score_artefacts(study):
        path = directory / artefact.folder.replace("results/", "evidence/", 1) / "scores.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(figures(artefact)))
    for job in all_jobs(study):
        path = directory / job.artefact.receipt.replace("results/", "evidence/", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"params": job.params, "version": job.version}))
    keep_runs(study, directory, 6)
    return study
