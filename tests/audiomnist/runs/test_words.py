"""What the words of train_test.sh ask for, and what is done about it before and after any training."""

import sys
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import pytest

from audiomnist.corpus import demo_corpus, validate
from audiomnist.corpus.layout import CorpusError
from audiomnist.explain import cli as explain
from audiomnist.places import HOME
from audiomnist.preprocessing import command as preprocessing
from audiomnist.runs import prepare, train_test
from audiomnist.runs.render import Training
from audiomnist.runs.run_folder import RunError, RunName
from audiomnist.runs.runner import CPU
from audiomnist.runs.train_test import Call, Misuse, parse
from audiomnist.workers import available_cores
from tests.small_corpus import make_corpus

FOLDERS = [HOME / name for name in ("data", "preprocessed_data", "runs")]
DEMO = [HOME / "demo" / name for name in ("data", "preprocessed", "runs")]
ALL = ("all", "all", "all")
RUN = RunName("AlexNet", "digit", 0)


@pytest.mark.parametrize(
    "words, call",
    [
        ("", Call(*FOLDERS, ALL, Training(), (), None, False, False, False)),
        ("AudioNet gender 2", Call(*FOLDERS, ("AudioNet", "gender", "2"), Training(), (), None, False, False, False)),
        ("AudioNet", Call(*FOLDERS, ("AudioNet", "all", "all"), Training(), (), None, False, False, False)),
        ("--quick", Call(*FOLDERS, ALL, Training(True), (), None, False, False, False)),
        ("--demo", Call(*DEMO, ("all", "digit", "0"), Training(True), (), None, False, False, True)),
        ("--demo AlexNet", Call(*DEMO, ("AlexNet", "digit", "0"), Training(True), (), None, False, False, True)),
        ("--data=/a --preprocessed /b --runs=/c", Call(*map(HOME.__truediv__, ("/a", "/b", "/c")), ALL, Training(), (),
                                                       None, False, False, False)),
        ("--max-iter 7 --snapshot=2 --seed 3", Call(*FOLDERS, ALL, Training(False, 7, 2, 3), (), None, False, False,
                                                    False)),
        ("--max-iter 7 --max-iter 8", Call(*FOLDERS, ALL, Training(False, 8), (), None, False, False, False)),
        ("--jobs 2 --tf32", Call(*FOLDERS, ALL, Training(), (), 2, True, False, False)),
        ("--skip-invalid --gpu 0,3", Call(*FOLDERS, ALL, Training(), ("0", "3"), None, False, True, False)),
        ("--gpu 3 --cpu", Call(*FOLDERS, ALL, Training(), (CPU,), None, False, False, False)),
        ("--cpu --gpu 3", Call(*FOLDERS, ALL, Training(), ("3",), None, False, False, False)),
        ("AlexNet --help digit", None), ("-h", None),
    ],
    ids=str,
)  # fmt: skip
def test_words_and_what_they_ask_for(words, call):
    assert parse(words.split()) == call


@pytest.mark.parametrize(
    "words, said",
    [
        ("--max-iter 0", "--max-iter: expected a whole number of at least 1, got '0'"),
        ("--snapshot 0", "--snapshot: expected a whole number of at least 1, got '0'"),
        ("--jobs 0", "--jobs: expected a whole number of at least 1, got '0'"),
        ("--seed -1", "--seed: expected a whole number of at least 0, got '-1'"),
        ("--seed ٣", "--seed: expected a whole number of at least 0, got '٣'"),
        ("--seed ²", "--seed: expected a whole number of at least 0, got '²'"),
        ("--gpu 0,x", "--gpu: expected a whole number of at least 0, got 'x'"),
        ("--gpu 0,", "--gpu: expected a whole number of at least 0, got ''"),
        ("--data", "--data: expected a value, got none"),
        ("--runs=", "--runs: expected a value, got none"),
        ("--demo=1", "command line: expected options that the usage names, got --demo"),
        ("--demo --paper", "--paper: expected it first, before the options of the study, got it after others"),
        ("a b 0 d", "command line: expected nothing after network, task and split, got 'd'"),
    ],
)
def test_words_that_mean_nothing(words, said):
    with pytest.raises(Misuse) as caught:
        parse(words.split())
    assert str(caught.value) == f"{said} (--help shows the usage)" and caught.value.exit_status == 2
    assert parse(
        ["--seed", "0", "--gpu", "0", "--jobs", "1", "--max-iter", "1", "--snapshot", "1"]
    )  # the least of each


def test_pictures_are_of_recordings_far_apart(tmp_path, monkeypatch):
    """Four of the test list, in steps of 27 %: 0, 27, 54 and 81 of a hundred."""
    (tmp_path / "pre").mkdir()
    names = [f"01/AlexNet_{k}_01_0.hdf5" for k in range(100)]
    (tmp_path / "pre/AlexNet_digit_0_test.txt").write_text("\n".join(names))
    runner = SimpleNamespace(folder=lambda run: tmp_path / "run", preprocessed=tmp_path / "pre",
                             state=lambda run: SimpleNamespace(file=tmp_path / "w.caffemodel"))  # fmt: skip
    (tmp_path / "run").mkdir()
    asked, status = [], [0, 0, 0, 0]
    monkeypatch.setattr(explain, "main", lambda words: asked.append(words) or status[len(asked) - 1])
    train_test.explain_examples(runner, RUN)
    assert asked == [
        ["--model", f"{tmp_path}/run/deploy.prototxt", "--weights", f"{tmp_path}/w.caffemodel", "--input",
         f"{tmp_path}/pre/{names[k]}", "--output", f"{tmp_path}/run/heatmaps/AlexNet_{k}_01_0.png"]
        for k in (0, 27, 54, 81)
    ]  # fmt: skip
    for code, error in ((130, KeyboardInterrupt), (1, RunError)):
        asked.clear()
        status[1] = code
        with pytest.raises(error):
            train_test.explain_examples(runner, RUN)
        assert len(asked) == 2


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A corpus, and what is asked of validation and preprocessing, which answer `answers`."""
    data = make_corpus(tmp_path / "data")
    made = SimpleNamespace(data=data, out=tmp_path / "pre", asked=[], errors=0, status=0)

    def report(folder, jobs):
        made.asked.append(("report", folder, jobs))
        print("listed")
        return made.errors

    def preprocess(source, destination, meta, **options):
        made.asked.append((source, destination, meta, options))
        if isinstance(made.status, BaseException):
            raise made.status
        return made.status

    monkeypatch.setattr(validate, "report", report)
    monkeypatch.setattr(preprocessing, "preprocess", preprocess)
    return made


def test_inputs_are_made_from_valid_recordings_with_the_seed(prepared, capsys):
    prepare.prepare_inputs([RUN], prepared.data, prepared.out, 7)
    cores = available_cores()
    assert prepared.asked == [
        ("report", prepared.data, cores),
        (prepared.data, prepared.out, prepared.data / "audioMNIST_meta.txt",
         {"jobs": cores, "seed": 7, "skip_invalid": False}),
    ]  # fmt: skip
    assert capsys.readouterr() == ("", "listed\n")


def test_errors_end_the_preparation_unless_they_are_left_out(prepared):
    prepared.errors = 2
    with pytest.raises(
        RunError, match="data: expected recordings without errors, got 2 errors .*--skip-invalid leaves"
    ):
        prepare.prepare_inputs([RUN], prepared.data, prepared.out, 0)
    assert len(prepared.asked) == 1
    prepare.prepare_inputs([RUN], prepared.data, prepared.out, 0, skip_invalid=True)
    assert prepared.asked[-1][3]["skip_invalid"] is True


@pytest.mark.parametrize(
    "status, said",
    [
        (1, "preprocessing: expected lists of every part, got defects"),
        (CorpusError("x", "y", "z"), "preprocessing: x: expected y, got z"),
        (BrokenProcessPool(), "preprocessing: expected workers that live, got a dead one"),
    ],
)
def test_a_failed_preprocessing_is_one_sentence(prepared, status, said):
    prepared.status = status
    with pytest.raises(RunError, match=said):
        prepare.prepare_inputs([RUN], prepared.data, prepared.out, 0)


def test_nothing_is_prepared_where_all_lists_are_there(prepared):
    """One list of one run that is missing is enough to begin; without recordings there is nothing to begin with."""
    other = RunName("AudioNet", "digit", 0)
    prepared.out.mkdir()
    for run in (RUN, other):
        for part in ("train", "validate", "test"):
            (prepared.out / f"{run.network}_digit_0_{part}.txt").write_text("x\n")
    prepare.prepare_inputs([RUN, other], prepared.data, prepared.out, 0)
    assert prepared.asked == []
    (prepared.out / "AudioNet_digit_0_validate.txt").unlink()
    prepare.prepare_inputs([RUN], prepared.data, prepared.out, 0)
    assert prepared.asked == []
    prepare.prepare_inputs([RUN, other], prepared.data, prepared.out, 0)
    assert len(prepared.asked) == 2
    with pytest.raises(RunError, match="pre: expected lists of the selected runs, or recordings .*, got neither"):
        prepare.prepare_inputs([other], prepared.out, prepared.out, 0)


def test_the_demos_corpus_is_six_repetitions_of_sixty_speakers(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(demo_corpus, "make_corpus", lambda *words: asked.append(words) or 3600)
    prepare.make_demo_corpus(tmp_path)
    assert asked == [(tmp_path, 6, 60, 0, available_cores())]
    assert capsys.readouterr() == ("", f"3600 recordings of 60 synthetic speakers in {tmp_path}\n")

    def fail(*words):
        raise CorpusError("eSpeak NG", "a voice", "none")

    monkeypatch.setattr(demo_corpus, "make_corpus", fail)
    with pytest.raises(RunError, match="demo corpus: eSpeak NG: expected a voice, got none"):
        prepare.make_demo_corpus(tmp_path)


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """`execute` with every step replaced by one that says that it was done: (call, what was done, what fails)."""
    done, failing = [], []
    (tmp_path / "pre").mkdir()
    (tmp_path / "pre/splits.json").write_bytes((HOME / "data/splits.json").read_bytes())

    class Runner:
        def __init__(self, engine, preprocessed, runs, training, say, devices, jobs, tf32):
            done.append((engine, preprocessed, runs, training, devices, jobs, tf32))

        def advance_all(self, runs):
            done.append([str(run) for run in runs])
            return [run for run in runs if str(run) in failing]

    def pictures(runner, run):
        done.append(f"pictures {run}")
        if "pictures" in failing:
            raise RunError("a picture", "one", "none")

    def summary(words):
        done.append(words)
        if "summary" not in failing:
            (tmp_path / "runs/summary.csv").write_text("")
        return int("summary" in failing)

    monkeypatch.setattr(train_test, "Runner", Runner)
    monkeypatch.setattr(train_test.Engine, "find", lambda: "engine")
    monkeypatch.setattr(train_test, "prepare_inputs", lambda *words: done.append(words))
    monkeypatch.setattr(train_test, "make_demo_corpus", lambda data: done.append(("demo", data)))
    monkeypatch.setattr(train_test, "explain_examples", pictures)
    monkeypatch.setattr(train_test.summary, "main", summary)
    words = f"--data {tmp_path}/data --preprocessed {tmp_path}/pre --runs {tmp_path}/runs".split()
    return SimpleNamespace(words=words, done=done, failing=failing, runs=tmp_path / "runs", folder=tmp_path)


def test_a_call_is_carried_out_step_by_step(steps, capsys):
    call = parse(
        [*steps.words, *["--seed", "5", "--gpu", "1", "--jobs", "2", "--tf32", "--skip-invalid", "all", "digit", "4"]]
    )
    assert train_test.execute(call) == 0
    runs = [RunName(network, "digit", 4) for network in ("AlexNet", "AudioNet")]
    assert steps.done == [
        (runs, call.data, call.preprocessed, 5, True),
        ("engine", call.preprocessed, call.runs, Training(seed=5), ("1",), 2, True),
        [str(run) for run in runs],
        [str(steps.runs)],
    ]
    said = capsys.readouterr()
    assert said.out == f"runs        {steps.runs}\nsummary     {steps.runs}/summary.csv\n" and said.err == ""


def test_the_demo_makes_its_recordings_first_and_draws_last(steps, capsys):
    call = parse([*steps.words, "--demo"])
    assert train_test.execute(call) == 0
    assert steps.done[0] == ("demo", call.data)
    assert steps.done[-2:] == ["pictures AlexNet_digit_0", "pictures AudioNet_digit_0"]
    assert f"pictures    {steps.runs}/*/heatmaps\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "failing, not_done, summaries, pictures",
    [
        (["AlexNet_digit_0"], "AlexNet_digit_0", 1, 1),
        (["AlexNet_digit_0", "AudioNet_digit_0"], "AlexNet_digit_0 AudioNet_digit_0", 0, 0),
        (["summary"], "summary", 1, 2),
        (["pictures"], "pictures of AlexNet_digit_0 pictures of AudioNet_digit_0", 1, 2),
    ],
)
def test_what_is_not_done_is_named_and_the_rest_is_done(steps, capsys, failing, not_done, summaries, pictures):
    steps.failing += failing
    assert train_test.execute(parse([*steps.words, "--demo"])) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == f"train_test.sh: not done: {not_done}"
    assert steps.done.count([str(steps.runs)]) == summaries
    assert sum(str(step).startswith("pictures") for step in steps.done) == pictures
    assert ("summary     " in said.out) == (summaries == 1 and "summary" not in failing)


def test_without_inputs_and_recordings_there_are_three_ways_on(steps, capsys):
    (steps.folder / "pre/splits.json").unlink()
    assert train_test.execute(parse(steps.words)) == 1
    assert steps.done == [] and capsys.readouterr().err.count("\n") == 4
    make_corpus(steps.folder / "data")
    assert train_test.execute(parse([*steps.words, "AlexNet", "digit", "0"])) == 0


def test_the_door_reads_the_command_line_and_hears_sigterm(steps, monkeypatch, capsys):
    heard = []
    monkeypatch.setattr(train_test, "interrupt_on_sigterm", lambda: heard.append(len(steps.done)))
    monkeypatch.setattr(sys, "argv", ["train_test.sh", *steps.words, "AlexNet", "gender", "3"])
    assert train_test.main() == 0 and heard == [0] and ["AlexNet_gender_3"] in steps.done
    capsys.readouterr()
    assert train_test.main(["--help"]) == 0 and capsys.readouterr().out == train_test.USAGE
    assert train_test.main(["--nonsense"]) == 2
    assert capsys.readouterr().err.startswith("train_test.sh: command line: expected options that the usage names, got")
