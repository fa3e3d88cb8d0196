"""The trainer of pythae for the benchmark `training`, in a process and environment of its own.

It trains until its standard input ends: each line that it reads is a number of steps to make, each
line that it writes the number of seconds that one of them took.
"""

import json
import logging
import os
import sys
import tempfile

import torch
from _timing import clock
from _training import Task, norm_of
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import BaseAE, BaseAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor
from torch.nn import functional

ANSWERS = os.fdopen(os.dup(1), "w")  # pythae prints to standard output
os.dup2(2, 1)


class Model(BaseAE):
    """The model of the task, as pythae wants it: a loss from `forward`."""

    def __init__(self, config: BaseAEConfig, task: Task) -> None:
        super().__init__(config, decoder=torch.nn.Identity())
        self.inner, self.weight = task.model(), task.weight

    def forward(self, inputs: BaseDataset, **_: object) -> ModelOutput:
        x = inputs["data"]
        loss = functional.mse_loss(self.inner(x), x) + self.weight * norm_of(self.inner)
        return ModelOutput(loss=loss)

    def set_decoder(self, decoder: torch.nn.Module) -> None:
        """Do nothing: the model has its own."""

    def save(self, dir_path: str) -> None:
        """Do nothing."""


class Images(BaseDataset):
    """pythae's own set of samples and labels, without its labels."""

    def __init__(self, samples: Tensor) -> None:
        super().__init__(samples, torch.zeros(len(samples)))

    def __getitem__(self, index: int) -> DatasetOutput:
        return DatasetOutput(data=self.data[index])


class InTurns(TrainingCallback):
    """Waits for the next request, and answers how long the steps took."""

    def __init__(self) -> None:
        self.left, self.asked, self.start = 1, 0, 0.0

    def on_train_step_end(self, *_: object, **__: object) -> None:
        self.left -= 1
        if self.left:
            return
        if self.asked:
            print((clock() - self.start) / self.asked, file=ANSWERS, flush=True)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self.left = self.asked = int(line)
        self.start = clock()


def main() -> None:
    """Train without end."""
    task = Task(**json.loads(sys.argv[1]))
    logging.disable()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=10**6,
            learning_rate=task.learning_rate,
            per_device_train_batch_size=task.batch,
            no_cuda=not torch.cuda.is_available(),
        )
        model = Model(BaseAEConfig(input_dim=task.shape, latent_dim=task.latent), task)
        BaseTrainer(
            model,
            Images(task.samples()),
            training_config=config,
            callbacks=[InTurns()],
        ).train()


if __name__ == "__main__":
    main()
