"""torch.func: no optimizer object; an ensemble of networks is trained by vmap over grad, parameters are a dict."""

import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from ending import keep

torch.manual_seed(38)
x = torch.randn(300, 6)
y = x.norm(dim=1, keepdim=True)
nets = [nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 1)) for _ in range(4)]
parameters, _ = stack_module_state(nets)
parameters = {name: value.detach() for name, value in parameters.items()}
speeds = {name: torch.zeros_like(value) for name, value in parameters.items()}


def loss_of(weights, inputs, targets):
    """Of one member."""
    return nn.functional.mse_loss(functional_call(nets[0], weights, (inputs,)), targets)


gradient = vmap(grad(loss_of), in_dims=(0, 0, 0))
trace = []
for step in range(250):
    rows = torch.randint(0, 300, (4, 24))
    slopes = gradient(parameters, x[rows], y[rows])
    speeds = {name: 0.9 * speeds[name] - 0.02 * slopes[name] for name in parameters}
    parameters = {name: parameters[name] + speeds[name] for name in parameters}
    trace.append(sum(float(value.abs().sum()) for value in slopes.values()))
    if step % 50 == 0:
        print(f"{step}: {trace[-1]:.6f}", flush=True)
keep(parameters=parameters, speeds=speeds, trace=trace)
