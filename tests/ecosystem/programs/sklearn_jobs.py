"""scikit-learn: cross validation, a grid search and a forest with two jobs, beside one job."""

from __future__ import annotations

import sys

import numpy as np
import proof
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score


def results(jobs):
    features, labels = make_classification(300, 8, random_state=0)
    scores = cross_val_score(LogisticRegression(), features, labels, cv=4, n_jobs=jobs)
    search = GridSearchCV(LogisticRegression(), {"C": [0.01, 1.0]}, cv=2, n_jobs=jobs).fit(features, labels)
    forest = RandomForestClassifier(10, random_state=0, n_jobs=jobs).fit(features, labels)
    return scores, search.cv_results_["mean_test_score"], forest.predict_proba(features)


if __name__ == "__main__":
    backend = sys.argv[1]
    expected = results(1)
    with parallel_config(backend=backend):
        for mine, theirs in zip(results(2), expected, strict=True):
            assert np.allclose(mine, theirs)
    check = proof.check_alias if backend == "loky" else proof.check
    check(Parallel(n_jobs=2, backend=backend)(delayed(proof.home)() for _ in range(2)))
    print("done")
