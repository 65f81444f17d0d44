"""The program from outside: exit codes, one line for every error, help without torch."""

import json
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from recbole_recfound import __version__
from recbole_recfound.cli import main
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.runtime.locations import properties_dir, recbole_dir
from recbole_recfound.trainer.recfound import RecFoundTrainer


@pytest.fixture
def calls(monkeypatch):
    """Records what the command line hands to `run_recfound`."""
    recorded = []
    module = types.ModuleType("recbole_recfound.quick_start")
    module.run_recfound = lambda **arguments: recorded.append(arguments)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return recorded


def typed(settings: dict) -> list[str]:
    """Settings as words of a command line."""
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]


def test_defaults(calls):
    assert main(["run"]) == 0
    assert calls == [{"model": "RecFound", "dataset": "ml-100k", "config_file_list": [], "config_dict": {}}]


def test_what_is_handed_over(calls, tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("seed: 1\n")
    argv = [
        "--model=BPR",
        "--dataset",
        "mine",
        "--config_files",
        "a.yaml b.yaml",
        "--seed=5",
        "--mask_history",
        "--baselines=Pop,BPR",
    ]
    assert main(["run", *argv]) == 0
    assert calls == [
        {
            "model": "BPR",
            "dataset": "mine",
            "config_file_list": ["a.yaml", "b.yaml"],
            "config_dict": {"seed": 5, "mask_history": True, "baselines": ["Pop", "BPR"]},
        }
    ]


def test_model_and_data_set_named_in_a_file(calls, tmp_path):
    (tmp_path / "a.yaml").write_text("model: SASRec\ndataset: mine\n")
    main(["run", "--config_files=a.yaml"])
    main(["run", "--config_files=a.yaml", "--model=BPR"])
    assert [(call["model"], call["dataset"]) for call in calls] == [("SASRec", "mine"), ("BPR", "mine")]


def test_the_process_arguments_are_read_only_without_others(calls, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recfound", "run", "--seed=9"])
    assert main() == 0 and calls[0]["config_dict"] == {"seed": 9}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "--learning_rte=1"], "learning_rte: unknown setting; did you mean learning_rate?"),
        (["run", "--epochs=many"], "epochs: got 'many', expected a whole number"),
        (["run", "--model=RecFind"], "model: unknown model 'RecFind'; did you mean RecFound?"),
        (["run", "--dataset=nowhere"], "data set 'nowhere' not found"),
        (["run", "--baselines=Popp"], "baselines: unknown RecBole model 'Popp'; did you mean Pop?"),
        (["run", "--config_files=nowhere.yaml"], "config file nowhere.yaml does not exist"),
        (["run", "junk"], "unexpected argument 'junk'"),
        (["train"], "unknown command 'train'; commands: run"),
    ],
)
def test_every_error_is_one_line_and_exit_code_2(argv, message, capsys):
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and message in captured.err
    assert "Traceback" not in captured.out + captured.err


def test_text_values_arrive_as_they_were_typed(calls):
    argv = ["--data_path=/data/my data #1", "--seq_separator=|", "--wandb_project", "1e-3", "--resume=", "--topk=5,10"]
    assert main(["run", *argv, "--kernel_args={code_size: 4}", "--max_steps=~", "--control=None"]) == 0
    assert calls[0]["config_dict"] == {
        "data_path": "/data/my data #1",
        "seq_separator": "|",
        "wandb_project": "1e-3",
        "resume": "",
        "topk": [5, 10],
        "kernel_args": {"code_size": 4},
        "max_steps": None,
        "control": None,
    }


def test_several_problems_are_printed_in_groups_with_exit_code_2(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("neg_sampling: {uniform: 1}\nepochs: 500\nlearning_rate: high\n")
    argv = ["--config_files=a.yaml nowhere.yaml", "--learning_rte=1", "--seed=x", "--tasks=U2I,QQ"]
    assert main(["run", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(
        "error: 7 problems in the settings\nfiles:\n  config file nowhere.yaml does not exist\n"
    )
    for message in (
        "unknown keys:\n  learning_rte: unknown setting; did you mean learning_rate?\n",
        "renamed keys:\n  neg_sampling (a.yaml:1): a key of an older RecBole",
        "not read by RecFound:\n  epochs (a.yaml:2): not read by RecFound; use max_steps",
        "wrong values:\n  learning_rate (a.yaml:3): got 'high', expected a number, above 0\n",
        "  seed: got 'x', expected a whole number",
        "  tasks: unknown task 'QQ'; known: U2I",
    ):
        assert message in captured.err, captured.err
    assert captured.out == "" and "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--use_gpu=True"], "no CUDA device"),
        (["--tasks=U2I,SRR"], "'SRR'"),
        (["--item_args={text_fields: [colour]}"], "'colour'"),
        (["--backbone=/nowhere/llm"], "backbone '/nowhere/llm' not found"),
        (["--adapter_args={experts_per_group: 0}"], "experts_per_group"),
        (["--adapter_args={target_modules: [qkv]}"], "no linear layer 'qkv'"),
        (["--eval_args={split: {RS: [1.0, 0.0, 0.0]}}"], "empty"),
        (["--topk=5000", "--valid_metric=NDCG@5000"], "topk: 5000, but there are only"),
        (["--output_dir=taken/runs"], "output_dir: taken/runs/"),
        (["--log_wandb=True"], "log_wandb: pip install wandb"),
    ],
    ids=str,
)
def test_every_mistake_about_recfound_is_one_line_before_training(
    changes, message, small_run, tmp_path, capsys, monkeypatch
):
    (tmp_path / "taken").write_text("a file where a folder should be")
    monkeypatch.setattr(RecFoundTrainer, "fit", lambda *_, **__: pytest.fail("training began"))
    monkeypatch.setattr("recbole_recfound.config.configurator.find_spec", lambda name: None)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    changed = {word.partition("=")[0] for word in changes}
    settings = [word for word in typed(small_run) if word.partition("=")[0] not in changed]
    assert main(["run", "--dataset=tiny", *settings, *changes]) == 2
    captured = capsys.readouterr()
    *_, last = captured.err.splitlines()  # before it, perhaps, what transformers says of loading weights
    assert last.startswith("error: ") and message in last
    assert "Traceback" not in captured.out + captured.err


def test_a_loss_that_is_not_finite_is_one_line(small_run, capsys, monkeypatch):
    monkeypatch.setattr(
        "recbole_recfound.model.example_losses.answer_loss", lambda states, *_: states.sum((1, 2)) * float("nan")
    )
    settings = typed(small_run)
    assert main(["run", "--dataset=tiny", "--tasks=U2I,SR", *settings]) == 2
    captured = capsys.readouterr()
    assert (
        "Traceback" not in captured.out + captured.err and captured.err.count("error: ") == 1 and "SR" in captured.err
    )


def test_interrupted(calls, monkeypatch, capsys):
    def interrupt(**arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["recbole_recfound.quick_start"], "run_recfound", interrupt)
    assert main(["run"]) == 130 and capsys.readouterr().err == "error: interrupted\n"


def test_errors_of_programming_are_not_hidden(calls, monkeypatch):
    def fail(**arguments):
        raise AttributeError("a mistake of ours")

    monkeypatch.setattr(sys.modules["recbole_recfound.quick_start"], "run_recfound", fail)
    with pytest.raises(AttributeError):
        main(["run"])


@pytest.mark.parametrize("argv", [["--version"], ["run", "--version"]])
def test_version(argv, capsys):
    assert main(argv) == 0 and capsys.readouterr().out == f"recbole_recfound {__version__}\n"


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_commands_are_listed(argv, capsys):
    assert main(argv) == 0 and "recfound COMMAND --help" in capsys.readouterr().out


def test_help_lists_every_option_with_default_and_effect(capsys):
    assert main(["run", "--help"]) == 0
    text = capsys.readouterr().out
    theirs = recbole_dir() / "properties"
    files = [properties_dir() / "overall.yaml", *properties_dir().glob("model/RecFound.yaml")]
    for path in [*files, theirs / "overall.yaml", theirs / "dataset" / "sample.yaml"]:
        for setting in read_settings(path):
            assert f"--{setting.key}" in text, setting.key
            assert path not in files or " ".join(setting.effect.split()[:4]) in text, setting.key
    assert "--warmup_steps=30  (int; >= 0)" in text
    assert "--seed=2020" in text and "--valid_metric=NDCG@10" in text and "--metrics=[Recall, NDCG, MRR, Hit]" in text


def test_help_for_another_model(capsys):
    assert main(["run", "--model=SASRec", "--help"]) == 0
    assert "--attn_dropout_prob=0.5" in capsys.readouterr().out


def test_help_and_errors_from_another_folder_without_torch(checkout, tmp_path):
    code = f"""
import runpy, sys
sys.argv = ["run_recfound.py", "--help"]
try:
    runpy.run_path({str(checkout / "run_recfound.py")!r}, run_name="__main__")
except SystemExit as end:
    print("exit", end.code, "torch" in sys.modules)
"""
    environment = {"PYTHONPATH": str(checkout), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "exit 0 False", done.stderr
    script = [sys.executable, str(checkout / "run_recfound.py"), "--seed=1", "--seed=2"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr == "error: seed: specified more than once, as 1 and 2\n"


def _in_numpy():
    """What a library raises over a user's data."""
    np.stack([])


def _full_disk():
    raise OSError(28, "No space left on device", "runs/x")


def _no_memory():
    raise MemoryError


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (lambda: open("/proc/none/file", "w"), "error: /proc/none/file: No such file or directory"),
        (_full_disk, "error: runs/x: No space left on device"),
        (_no_memory, "error: not enough memory; smaller batches"),
        (_in_numpy, "error: numpy: need at least one array to stack"),
    ],
)
def test_what_libraries_and_the_machine_raise_is_one_line(monkeypatch, capsys, raised, said):
    monkeypatch.setattr("recbole_recfound.cli._dispatch", lambda argv: raised())
    assert main(["run"]) == 2
    assert capsys.readouterr().err.startswith(said)


def test_our_own_mistakes_keep_their_traceback(monkeypatch):
    monkeypatch.setattr("recbole_recfound.cli._dispatch", lambda argv: {}["missing"])
    with pytest.raises(KeyError):
        main(["run"])


def test_a_reader_that_leaves_is_no_error(checkout):
    """As in `recfound run --help | head -1`."""
    program = "import sys; from recbole_recfound.cli import main; sys.exit(main(['run', '--help']))"
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_memory_that_is_exhausted_is_one_line(calls, monkeypatch, capsys):
    def allocate(**arguments):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"
        )

    monkeypatch.setattr(sys.modules["recbole_recfound.quick_start"], "run_recfound", allocate)
    assert main(["run"]) == 2 and capsys.readouterr().err.startswith("error: not enough memory; smaller batches")


def test_the_long_table_is_of_one_model(capsys):
    """Another model must not be dropped without a word."""
    assert main(["compare", "--model=SASRec", "--dataset=ml-100k"]) == 2
    assert "model: got SASRec, but the long table has rows of RecFound" in capsys.readouterr().err


def test_a_seed_that_torch_does_not_take_is_refused(capsys):
    assert main(["distill", "run", "--out=student", "--seed=99999999999999999999999"]) == 2
    assert "seed: got 99999999999999999999999, expected a whole number" in capsys.readouterr().err
