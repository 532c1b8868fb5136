"""Hugging Face Accelerate: prepare, accumulate, clip, a plain loop over its wrapped loader."""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import keep


def main():
    """Train."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    set_seed(43)
    x = torch.randn(480, 12)
    loader = DataLoader(TensorDataset(x, (x @ torch.randn(12, 4)).argmax(1)), batch_size=24, shuffle=True)
    model = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    losses = []
    for epoch in range(20):
        model.train()
        for inputs, labels in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(model(inputs), labels)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        accelerator.print(f"epoch {epoch}: {losses[-1]:.6f}", flush=True)
    plain = accelerator.unwrap_model(model)
    keep(model=plain.state_dict(), optimizer=optimizer.state_dict(), losses=losses, rate=schedule.get_last_lr())


if __name__ == "__main__":
    main()
