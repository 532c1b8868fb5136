"""scikit-learn learns batch by batch: SGDClassifier, a running scaler and MiniBatchKMeans, all by partial_fit."""

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from ending import keep

np.random.seed(32)
dice = np.random.default_rng(32)
x = dice.normal(3, 2, (1200, 12))
y = (x[:, 0] + x[:, 1] > 6).astype(int)
scaler = StandardScaler()
model = SGDClassifier(loss="log_loss", penalty="elasticnet", random_state=np.random.RandomState(32))
groups = MiniBatchKMeans(n_clusters=5, random_state=np.random.RandomState(33), n_init=1)
scores = []
for epoch in range(14):
    for rows in np.array_split(dice.permutation(1200), 24):
        scaler.partial_fit(x[rows])
        inputs = scaler.transform(x[rows])
        model.partial_fit(inputs, y[rows], classes=[0, 1])
        groups.partial_fit(inputs)
    scores.append(float(model.score(scaler.transform(x), y)))
    print(f"epoch {epoch}: {scores[-1]:.5f}", flush=True)
keep(
    coefficients=model.coef_,
    intercept=model.intercept_,
    updates=float(model.t_),
    centers=groups.cluster_centers_,
    mean=scaler.mean_,
    variance=scaler.var_,
    scores=scores,
    next_draw=float(dice.random()),
)
