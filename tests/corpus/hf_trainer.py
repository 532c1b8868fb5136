"""Hugging Face Trainer: a tiny GPT-2 made from its configuration, nothing downloaded."""

import torch
from torch.utils.data import Dataset
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from ending import OUT, keep


class Tokens(Dataset):
    """Counting sequences with a gap."""

    def __init__(self, count):
        starts = torch.randint(0, 40, (count, 1))
        self.rows = (starts + torch.arange(12) * torch.randint(1, 4, (count, 1))) % 40

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


class Talker(TrainerCallback):
    """A line per log entry, without the times that the stock one prints."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        """Say it."""
        if "loss" in logs:
            print(f"step {state.global_step}: {logs['loss']}", flush=True)


def main():
    """Train."""
    set_seed(42)
    config = GPT2Config(
        vocab_size=40, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, use_cache=False
    )
    model = GPT2LMHeadModel(config)
    arguments = TrainingArguments(
        output_dir=str(OUT / "trainer"),
        num_train_epochs=4,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        warmup_steps=5,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=42,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Tokens(256), callbacks=[Talker()])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    log = [
        {key: row[key] for key in ("loss", "learning_rate", "step") if key in row} for row in trainer.state.log_history
    ]
    keep(
        model=model.state_dict(),
        optimizer=trainer.optimizer.state_dict(),
        schedule=trainer.lr_scheduler.state_dict()["last_epoch"],
        step=trainer.state.global_step,
        log=log,
    )


if __name__ == "__main__":
    main()
