"""Lightning: a LightningModule, its Trainer, a scheduler and a callback."""

import lightning as L  # noqa: N812  the name that its manual uses
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ending import OUT, keep


class Net(L.LightningModule):
    """A classifier."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 3))
        self.curve = []

    def training_step(self, batch, batch_index):
        """The loss."""
        inputs, labels = batch
        loss = nn.functional.cross_entropy(self.net(inputs), labels)
        self.curve.append(loss.item())
        return loss

    def configure_optimizers(self):
        """Adam and a step schedule."""
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.7)]


class Talker(L.Callback):
    """A line per epoch."""

    def on_train_epoch_end(self, trainer, pl_module):
        """Say it."""
        print(f"epoch {trainer.current_epoch}: {pl_module.curve[-1]:.6f}", flush=True)


def main():
    """Train."""
    L.seed_everything(44, verbose=False)
    x = torch.randn(480, 10)
    loader = DataLoader(TensorDataset(x, (x @ torch.randn(10, 3)).argmax(1)), batch_size=24, shuffle=True)
    model = Net()
    trainer = L.Trainer(
        max_epochs=10,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=OUT / "lightning",
        callbacks=[Talker()],
    )
    trainer.fit(model, loader)
    keep(
        model=model.state_dict(),
        optimizer=trainer.optimizers[0].state_dict(),
        curve=model.curve,
        step=trainer.global_step,
    )


if __name__ == "__main__":
    main()
