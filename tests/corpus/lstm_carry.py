"""An LSTM whose hidden state is carried from batch to batch and cut off from the graph (truncated back-propagation)."""

import torch
from torch import nn

from ending import keep

torch.manual_seed(30)
wave = torch.sin(torch.arange(4000) * 0.1).view(8, 500, 1) + 0.05 * torch.randn(8, 500, 1)
lstm = nn.LSTM(1, 24, num_layers=2, batch_first=True, dropout=0.1)
head = nn.Linear(24, 1)
parameters = [*lstm.parameters(), *head.parameters()]
optimizer = torch.optim.Adam(parameters, lr=3e-3)
losses = []
for epoch in range(6):
    hidden = None
    for start in range(0, 480, 20):
        inputs, targets = wave[:, start : start + 20], wave[:, start + 1 : start + 21]
        output, hidden = lstm(inputs, hidden)
        hidden = tuple(part.detach() for part in hidden)
        loss = nn.functional.mse_loss(head(output), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {losses[-1]:.6f}", flush=True)
keep(lstm=lstm.state_dict(), head=head.state_dict(), hidden=hidden, optimizer=optimizer.state_dict(), losses=losses)
