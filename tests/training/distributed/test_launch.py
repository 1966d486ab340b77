"""Processes of a training that die, fail or hang, and what the launcher makes of it.

The processes run other code than a training's, as each start of two that import the whole of it takes seconds.
`pytest tests/training/distributed/test_launch.py`
"""

import _thread
import inspect
import signal
import threading

import psutil
import pytest
from torch.distributed.elastic.multiprocessing.api import SubprocessContext
from torch.distributed.elastic.rendezvous import dynamic_rendezvous

from pipeline_lib.training.distributed import agent, launch, watchdog
from pipeline_lib.training.inputs import Inputs

BEGINNING = """
import os, sys, json, signal
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pipeline_lib.training.distributed import messages, watchdog, worker
place, rank = json.loads(sys.argv[2]), int(os.environ["RANK"])
store = messages.connect_store(place["endpoint"])
work = Path(place["work"])
first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
"""


@pytest.fixture
def ranks_that(monkeypatch, recipe, tmp_path):
    """Starts two ranks that run other code than a training's; a list of what is watched comes first."""

    def begin(code, watched):
        monkeypatch.setattr(agent, "START", code)
        two = recipe.model_copy(update={"execution": recipe.execution.model_copy(update={"processes": 2})})
        given = two, Inputs(*[tmp_path] * 4), tmp_path
        launch.launch_finetuned(*given, lambda records, steps: watched.extend(records), tmp_path)

    return begin


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "tunesmith"]


@pytest.mark.processes
def test_an_interrupt_ends_the_ranks(ranks_that):
    mine = psutil.Process()
    before = {child.pid for child in mine.children()}
    threading.Timer(3, _thread.interrupt_main).start()  # what Ctrl-C does
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        ranks_that("import time; time.sleep(60)", [])
    assert {child.pid for child in mine.children()} <= before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_what_rank_0_tells_is_passed_on_and_an_error_is_raised_again(ranks_that, caplog):
    code = f"""{BEGINNING}
if rank == 0:
    messages.send(store, "records", records=[{{"value": float("inf")}}], steps=1)
    messages.send(store, "log", rank=0, logger="tunesmith", level=30, line="100 % of it")
    messages.report_error(store, f"training process {{rank}}", FloatingPointError("the loss is nan"))
    sys.exit(1)
import time; time.sleep(60)
"""
    watched = []
    with pytest.raises(FloatingPointError, match="the loss is nan") as raised:
        ranks_that(code, watched)
    assert raised.value.__notes__[0].startswith("in training process 0:")
    assert watched == [{"value": float("inf")}]
    assert warnings(caplog)[-1] == "100 % of it"


KILLED_ONCE = f"""{BEGINNING}
history = [{{"step": step, "value": step}} for step in (1, 2, 3)]
if rank == 0:
    reports = worker.Reports(store)
    reports([] if first else history[:2], 3)  # what the checkpoint holds
    for record in history[0 if first else 2 :]:
        reports([record], 3)
    messages.flush(store)
if first:
    if rank == 1:
        import time; time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    import time; time.sleep(60)
"""


@pytest.mark.kill
def test_a_killed_rank_is_restarted_and_its_history_goes_on(ranks_that, caplog):
    watched = []
    ranks_that(KILLED_ONCE, watched)
    assert [record["step"] for record in watched] == [1, 2, 3]
    (line,) = warnings(caplog)
    assert line == "finetune    training process 1 was ended by SIGKILL: attempt 2 continues from step 2"


@pytest.mark.processes
def test_after_too_many_attempts_the_cause_is_raised(ranks_that, monkeypatch, tmp_path):
    code = f"""{BEGINNING}
with (work / f"starts-{{rank}}").open("a") as file:
    file.write("x")
if rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
import time; time.sleep(0.3)
messages.report_error(store, f"training process {{rank}}", RuntimeError("Connection closed by peer"))
sys.exit(1)
"""
    monkeypatch.setattr(agent, "MAX_RESTARTS", 1)
    with pytest.raises(RuntimeError, match="training process 1 was ended by SIGKILL; run again to continue"):
        ranks_that(code, [])
    assert len((tmp_path / "starts-1").read_text()) == 2


@pytest.mark.processes
def test_restarts_are_counted_anew_once_a_checkpoint_was_written(ranks_that, monkeypatch, tmp_path):
    code = f"""{BEGINNING}
starts = len(list(work.glob("start-*")))
if rank == 0:
    (work / f"start-{{starts}}").touch()
    worker.Reports(store)([{{"step": 5 * starts}}], 9)
    messages.flush(store)
    if starts < 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""
    monkeypatch.setattr(agent, "MAX_RESTARTS", 1)
    ranks_that(code, [])
    assert len(list(tmp_path.glob("start-*"))) == 4


@pytest.mark.processes
def test_a_rank_that_hangs_is_restarted_with_the_one_that_is_stopped(ranks_that, caplog, monkeypatch):
    """Rank 1 is stopped, so rank 0 waits for it and is ended by its own watchdog; the agent then kills rank 1."""
    code = f"""{BEGINNING}
watchdog.MINIMUM, watchdog.MULTIPLE, watchdog.GRACE, watchdog.INTERVAL = 0.5, 1, 0.5, 0.1
if rank == 0:
    worker.Reports(store)([], 1)
if first:
    watchdog.start(store, lambda seconds: worker._end(store, TimeoutError(f"no progress for {{seconds:.0f}} seconds")))
    watchdog.beat(), watchdog.beat()
    import time; time.sleep(0.3)
    if rank == 1:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)
"""
    limits, close = [], SubprocessContext._close

    def noted(context, death_sig, timeout):
        limits.append(timeout)
        close(context, death_sig, timeout)

    monkeypatch.setattr(SubprocessContext, "_close", noted)
    ranks_that(code, [])
    assert set(limits[:-1]) == {agent.STOP_SECONDS}
    assert limits[-1] == 30  # at the end, when those that were interrupted may still write a checkpoint
    assert (
        "training process 0 failed (TimeoutError: no progress for 1 seconds): attempt 2 continues"
        in warnings(caplog)[0]
    )


def test_a_rendezvous_does_not_search_all_modules_for_the_names_of_its_events(monkeypatch):
    monkeypatch.setattr(inspect, "stack", None)
    assert dynamic_rendezvous.get_method_name() == "rendezvous"


def test_what_went_wrong_is_noticed_early_enough_to_go_on_within_a_minute():
    machine_lost = agent.HEARTBEAT_SECONDS * agent.HEARTBEATS
    process_stopped = watchdog.MINIMUM + watchdog.GRACE + watchdog.INTERVAL
    assert max(machine_lost, process_stopped) + agent.STOP_SECONDS < 30


@pytest.mark.processes
def test_a_rank_that_dies_once_the_results_are_written_does_no_harm(ranks_that):
    code = f"""{BEGINNING}
if rank == 0:
    store.set(messages.WRITTEN, "")
    messages.flush(store)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ranks_that(code, [])
