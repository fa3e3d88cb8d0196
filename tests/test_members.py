"""What is stopped together can be gone on with apart, and the other way round."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from small import SMALL, load

from lorae.errors import Interrupted
from lorae.files import load_tensors
from lorae.members import Member
from lorae.options import Options
from lorae.runs import Run
from lorae.stacked import grid, train_alike, train_together
from lorae.stacking import Stack
from lorae.training import Session, train

TRAININGS = {
    "lorae-seldom": grid(replace(SMALL, settings={"every": 4}), (0, 1, 2)),
    "proximal-seldom": grid(
        replace(SMALL, model="lorae-proximal", settings={"every": 3}, ema=0.8, validation=0.1),
        (0,),
        (0.5, 1.0, 2.0),
    ),
    "scale-free-seldom": grid(
        replace(SMALL, model="lorae-scale-free", settings={"every": 4}, weight=0.01), (0, 1)
    ),
    "vae": grid(replace(SMALL, model="vae"), (0, 1), (0.5, 1.0)),
}


@pytest.fixture(autouse=True)
def data_kept(monkeypatch):
    monkeypatch.setattr(Options, "load", load)


def stopped_at(step: int, monkeypatch, owner, name: str):
    """Let a method of a loop be interrupted at a step."""
    real, calls = getattr(owner, name), iter(range(1, 1000))

    def stopping(*arguments):
        if next(calls) == step:
            signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(owner, name, stopping)


def counted(monkeypatch) -> list[int]:
    """Return a list that every step of a stack adds its number of members to."""
    sizes, real = [], Stack.backward

    def counting(self, x):
        sizes.append(len(self.members))
        return real(self, x)

    monkeypatch.setattr(Stack, "backward", counting)
    return sizes


def alike(folder, members: dict[str, Options]) -> dict:
    return {folder / name: options for name, options in members.items()}


def stop(folder, members, step, monkeypatch, *, together: bool) -> None:
    with monkeypatch.context() as patch:
        if together:
            stopped_at(step, patch, Stack, "backward")
            with pytest.raises(Interrupted):
                train_alike(alike(folder, members))
            return
        for name, options in members.items():
            with patch.context() as one:
                stopped_at(step, one, Session, "step")
                with pytest.raises(Interrupted):
                    train(options, folder / name, show=False)


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    found, expected = found.double(), expected.double()
    assert (found - expected).norm() <= 1e-3 * expected.norm() + 1e-6


@pytest.mark.parametrize("case", TRAININGS)
def test_a_checkpoint_is_that_of_the_training_alone(case, tmp_path, monkeypatch):
    """To the rounding of a few steps; what is no sum of roundings is the same bit for bit."""
    members = TRAININGS[case]
    for folder, together in (("stack", True), ("alone", False)):
        stop(tmp_path / folder, members, 7, monkeypatch, together=together)
    for name in members:
        (tensors, about), (expected, told) = (
            load_tensors(Run(tmp_path / folder / name).checkpoint) for folder in ("stack", "alone")
        )
        assert list(tensors) == list(expected)
        for key, value in tensors.items():
            if "generator" in key or "extra_state" in key or key.endswith(("step", "steps")):
                assert torch.equal(value, expected[key]), key
            elif not key.endswith(".bias"):  # before a standardisation it follows rounding alone
                assert_near(value, expected[key])
        about["state"].pop("seconds"), told["state"].pop("seconds")
        assert about["state"].pop("best") == pytest.approx(told["state"].pop("best"), rel=1e-4)
        assert about == told


def codes(run: Run) -> torch.Tensor:
    found = run.model().encode(torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    return found.detach() - found.detach().mean(0)


@pytest.mark.parametrize("together", [True, False], ids=["then apart", "then together"])
@pytest.mark.parametrize("case", ["lorae-seldom", "vae"])
def test_what_is_stopped_one_way_is_gone_on_with_the_other(case, together, tmp_path, monkeypatch):
    members = TRAININGS[case]
    stop(tmp_path, members, 7, monkeypatch, together=together)
    if together:
        for name, options in members.items():
            train(options, tmp_path / name, resume=True, show=False)
    else:
        train_alike(alike(tmp_path, members))
    for name, options in members.items():
        whole = train(options, tmp_path / "whole" / name, show=False)
        assert json.loads((tmp_path / name / "config.json").read_text()) == whole.about
        assert [line["step"] for line in Run(tmp_path / name).metrics()] == [5, 10, 12, 12]
        assert_near(codes(Run(tmp_path / name)), codes(whole))


def test_members_at_different_steps_are_trained_as_several_stacks(tmp_path, monkeypatch):
    members = TRAININGS["lorae-seldom"]
    (first, options), *others = members.items()
    stop(tmp_path, {first: options}, 7, monkeypatch, together=False)
    sizes = counted(monkeypatch)
    runs = train_alike(alike(tmp_path, members))
    assert sizes == [1] * 5 + [len(others)] * 12
    for run, given in zip(runs, members.values(), strict=True):
        assert_near(codes(run), codes(train(given, tmp_path / "whole" / run.name, show=False)))


def test_what_a_kill_left_between_the_members_is_made_even(tmp_path, monkeypatch):
    """Before the first is in its place all go back, and after it all go forward."""
    members = TRAININGS["lorae-seldom"]
    for call, step in ((4, 5), (5, 10)):
        out = tmp_path / str(step)
        real, calls = Member.commit, iter(range(100))

        def commit(self, real=real, calls=calls, call=call):
            if next(calls) == call - 1:
                raise KeyboardInterrupt
            real(self)

        with monkeypatch.context() as patch:
            patch.setattr(Member, "commit", commit)
            with pytest.raises(KeyboardInterrupt):
                train_together(members, out, show=False)
        with monkeypatch.context() as patch:
            sizes = counted(patch)
            runs = train_together(members, out, resume=True, show=False)
        assert sizes == [len(members)] * (SMALL.steps - step)
        left = {path.name for run in runs for path in run.checkpoint.parent.iterdir()}
        assert left == {"last.safetensors"}
