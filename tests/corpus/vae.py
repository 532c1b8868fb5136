"""A variational auto-encoder: draws from torch.distributions, a KL weight that is annealed, samples at the end."""

import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from ending import keep


class Vae(nn.Module):
    """Encoder to mean and spread, decoder back."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 8))
        self.decoder = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 16))
        self.register_buffer("prior", torch.zeros(4))

    def forward(self, x):
        """Reconstruction and divergence."""
        mean, spread = self.encoder(x).chunk(2, 1)
        posterior = Normal(mean, nn.functional.softplus(spread) + 1e-3)
        divergence = kl_divergence(posterior, Normal(self.prior, torch.ones(4))).sum(1).mean()
        return self.decoder(posterior.rsample()), divergence


torch.manual_seed(45)
x = torch.randn(320, 3) @ torch.randn(3, 16) + 0.05 * torch.randn(320, 16)
model = Vae()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
trace = {"reconstruction": [], "divergence": []}
for epoch, weight in enumerate(torch.linspace(0, 1, 24).tolist()):
    for rows in torch.randperm(320).split(32):
        output, divergence = model(x[rows])
        reconstruction = nn.functional.mse_loss(output, x[rows])
        optimizer.zero_grad()
        (reconstruction + 0.1 * weight * divergence).backward()
        optimizer.step()
        trace["reconstruction"].append(reconstruction.item())
        trace["divergence"].append(divergence.item())
    print(f"epoch {epoch}: {reconstruction.item():.5f} {divergence.item():.5f}", flush=True)
with torch.no_grad():
    samples = model.decoder(torch.randn(5, 4))
keep(model=model.state_dict(), optimizer=optimizer.state_dict(), trace=trace, samples=samples)
