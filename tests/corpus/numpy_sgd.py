"""A network by hand in NumPy alone, updated in place, shuffled by a Generator."""

import numpy as np

from ending import keep

rng = np.random.default_rng(33)
x = rng.normal(size=(600, 20))
y = np.tanh(x @ rng.normal(size=(20, 3)))
weights = {"w1": rng.normal(size=(20, 48)) * 0.2, "b1": np.zeros(48), "w2": rng.normal(size=(48, 3)) * 0.2}
speed = {name: np.zeros_like(value) for name, value in weights.items()}
rate, losses = 0.05, []
for epoch in range(200):
    order = rng.permutation(len(x))
    for start in range(0, len(x), 20):
        rows = order[start : start + 20]
        hidden = np.maximum(x[rows] @ weights["w1"] + weights["b1"], 0)
        mask = rng.random(hidden.shape) > 0.1
        error = (hidden * mask) @ weights["w2"] - y[rows]
        back = (error @ weights["w2"].T) * mask * (hidden > 0)
        gradients = {"w1": x[rows].T @ back, "b1": back.sum(0), "w2": (hidden * mask).T @ error}
        for name, gradient in gradients.items():
            speed[name] *= 0.9
            speed[name] -= rate / len(rows) * gradient
            weights[name] += speed[name]
    losses.append(float((error**2).mean()))
    rate *= 0.98
    if epoch % 40 == 0:
        print(f"epoch {epoch}: {losses[-1]:.6f}", flush=True)
keep(weights=weights, speed=speed, losses=losses, rate=rate, next_draw=float(rng.random()))
