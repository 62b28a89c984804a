"""What all jobs share: the list of them, and the help of each."""

import importlib
import io
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jobs
from jobs import command
from jobs.__main__ import main
from tests.run_job import run_job


def test_every_job_is_listed_once(capsys: pytest.CaptureFixture[str]) -> None:
    modules = {module.name for module in pkgutil.iter_modules(jobs.__path__)}
    assert sorted(command.ORDER) == sorted(modules - {"command", "__main__"})
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(command.ORDER)


@pytest.mark.parametrize("name", command.ORDER)
def test_help_names_the_command_and_gives_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"jobs.{name}").main(["--help"])
    assert ended.value.code == 0
    assert f"python -m jobs.{name}" in capsys.readouterr().out.split("example:")[1]


def test_help_and_wrong_options_wait_for_no_heavy_import() -> None:
    """PyTorch took five seconds of them, in which Ctrl-C was a traceback."""
    imports = "\n".join(f"import jobs.{name}" for name in command.ORDER)
    code = f"import sys\n{imports}\nprint(*sys.modules.keys() & {{'torch', 'ray', 'gensim'}})"
    command_line = [sys.executable, "-c", code]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("encoding", "shown"), [("latin-1", "\\u72d7é\\udcff"), ("utf-8", "狗é\\udcff")]
)
def test_a_name_that_the_terminal_lacks_ends_no_job(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # see `run_job`
    arguments = command.parser("", "python -m jobs.query")
    with pytest.raises(SystemExit) as ended:
        command.run(arguments, lambda _: print("狗é\udcff"), [])
    assert ended.value.code == 0
    terminal.seek(0)
    assert terminal.read() == f"{shown}\n"


def test_a_glob_that_the_shell_wrote_out_is_explained(
    tmp_path: Path,
) -> None:
    names = [tmp_path / f"{number}.jpg" for number in range(5_000)]
    for name in names[:2]:
        name.touch()
    _, errors = run_job("pipeline", "--images", *names, "--db", tmp_path / "db", status=2)
    says = errors.splitlines()[-1]
    assert f"{names[1]} and 4,998 more: an option takes one name. Put quotes around a glob" in says


@pytest.mark.parametrize(
    ("job", "option", "rest"),
    [
        ("pipeline", "--page", ["--images", "photos"]),
        ("query", "--output", ["dog"]),
        ("make_triples", "--output", ["--captions", "c.csv"]),
    ],
)
def test_a_result_of_an_unknown_ending_is_refused_before_any_work(
    job: str, option: str, rest: list[str]
) -> None:
    _, errors = run_job(job, "--db", "absent.db", *rest, option, "result.txt", status=2)
    assert f"error: {option} result.txt: " in errors
    assert ".parquet" in errors


def test_no_images_a_query_are_refused_before_any_work() -> None:
    _, errors = run_job("pipeline", "--images", "photos", "--db", "db", "--k", 0, status=2)
    assert "argument --k: must be at least 1, not 0" in errors


@pytest.mark.parametrize("job", ["evaluate", "make_triples", "train_embedder"])
@pytest.mark.parametrize("seed", ["-1", "4294967296", "one"])
def test_a_seed_that_no_generator_takes_is_a_bad_argument(job: str, seed: str) -> None:
    named = ["--db", "db", "--captions", "c.csv"]
    named += ["--output", "t.parquet"] if job == "make_triples" else []
    _, errors = run_job(job, *named, "--seed", seed, status=2)
    assert f"argument --seed: {'invalid' if seed == 'one' else 'must be 0 to 4294967295'}" in errors


@pytest.mark.parametrize("gpus", ["1.5", "0.00001", "inf", "nan", "-1"])
def test_gpus_that_ray_cannot_give_are_a_bad_argument(gpus: str) -> None:
    named = ["--images", "photos", "--db", "db", "--gpus-per-worker", gpus]
    _, errors = run_job("extract_descriptors", *named, status=2)
    assert "argument --gpus-per-worker: must be a whole number of GPUs, or a share of one" in errors


@pytest.mark.parametrize(
    "option", [("--margin", "nan"), ("--margin", "-1"), ("--epochs", "-1"), ("--batch-size", "0")]
)
def test_training_settings_are_looked_at_before_training(option: tuple[str, str]) -> None:
    _, errors = run_job("train_embedder", "--db", "db", *option, status=2)
    assert f"{option[0]} must be" in errors


@pytest.mark.parametrize("option", ["--db", "--page", "--json"])
def test_a_submitted_job_leaves_no_result_where_ray_deletes_it(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123"
    copy.mkdir(parents=True)
    monkeypatch.setattr(command, "PROJECT_ROOT", copy)
    places = {"--db": str(tmp_path / "db"), "--images": str(tmp_path)} | {option: "kept/here"}
    words = [word for place in places.items() for word in place]
    _, refused = run_job("pipeline", *words, status=2, cwd=copy)
    assert f"{option} kept/here would lie in the copy" in refused


def test_closed_streams_end_no_job() -> None:
    command = f"exec {sys.executable} -m jobs.compact_database --db none"
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        run = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True)
        assert run.returncode == 1
        assert ("none has no embeddings" in run.stderr) == (closed == ">&-")


def test_without_credentials_a_store_is_one_line(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nowhere = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-m", "jobs.embed_database", "--db", "s3://bucket/db"]
    done = subprocess.run(
        command, env={**kept, **nowhere}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    named = r"python -m jobs.embed_database: s3://bucket/db/\S+: Unable to locate credentials\n"
    assert re.fullmatch(named, done.stderr)


@pytest.mark.parametrize(
    ("text", "goes_on"),
    [
        ("os.kill(os.getpid(), signal.SIGINT); [i for i in range(10**6)]", True),
        ("os.kill(os.getpid(), signal.SIGTERM); [i for i in range(10**6)]", False),
        ("import sys; sys.exit(signal.SIGTERM)", True),  # what Ray's handler does
        pytest.param(
            "with connect(): os.kill(os.getpid(), signal.SIGTERM); [i for i in range(10**6)]",
            True,
            marks=[pytest.mark.ray, pytest.mark.long],  # starts a Ray of its own
        ),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM while Ray starts", "SIGTERM with Ray"],
)
def test_an_interrupt_at_any_moment_is_one_line_and_a_status(
    text: str, goes_on: bool, tmp_path: Path
) -> None:
    """Also within `exec`, as in an import: Python alone ends by the signal then."""
    (tmp_path / "interrupted.py").write_text(
        "import atexit, os, signal\n"
        "from jobs import command\n"
        "from lib.cluster import connect\n"
        "atexit.register(print, 'stopped')\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        f"text = {text!r}\n"
        "parser = command.parser('', 'python -m jobs.x')\n"
        f"command.main(lambda: parser, lambda _: exec(text), {goes_on})([])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, "stopped\n")
    rerun = "; a rerun goes on from here" if goes_on else ""  # a service, for example, does not
    assert done.stderr == f"python -m jobs.x: interrupted{rerun}\n"
