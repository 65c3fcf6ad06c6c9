"""The worker: order, a bounded queue, cancellation, end."""

import threading

import pytest

from nvs_ros.node.worker import Busy, Cancelled, Worker

TIMEOUT_S = 10


@pytest.fixture
def make_worker():
    made = []

    def make(next_idle=lambda: None, queue=2, on_error=print, start=True):
        made.append(Worker(next_idle, queue, on_error))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for worker in made:
        assert worker.stop('end of the test', TIMEOUT_S)


def blocker():
    """Work that runs until it is released or cancelled, and the events to follow it."""
    started, release = threading.Event(), threading.Event()

    def work(job):
        started.set()
        while not release.wait(0.005):
            job.check()
        return 'released'

    return work, started, release


def test_results_and_errors_reach_who_asked(make_worker):
    worker = make_worker()
    assert worker.submit(lambda job: 41 + 1).result() == 42
    failing = worker.submit(lambda job: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failing.result()
    assert worker.submit(lambda job: 'alive').result() == 'alive'


def test_jobs_run_in_order_and_no_more_than_the_queue_wait(make_worker):
    worker = make_worker(queue=2)
    work, started, release = blocker()
    first = worker.submit(work)
    assert started.wait(TIMEOUT_S)
    done = []
    waiting = [worker.submit(lambda job, i=i: done.append(i)) for i in range(2)]
    with pytest.raises(Busy, match='2 requests'):
        worker.submit(work)
    release.set()
    assert first.result() == 'released'
    for job in waiting:
        job.result()
    assert done == [0, 1]


def test_a_running_job_is_cancelled_with_the_reason(make_worker):
    worker = make_worker()
    work, started, _ = blocker()
    job = worker.submit(work)
    assert started.wait(TIMEOUT_S)
    job.cancel('nobody wants it')
    with pytest.raises(Cancelled, match='nobody wants it'):
        job.result()


def test_a_waiting_job_that_is_cancelled_ends_at_once_and_frees_its_place(make_worker):
    worker = make_worker()
    work, started, release = blocker()
    worker.submit(work)
    assert started.wait(TIMEOUT_S)
    ran = []
    waiting = worker.submit(lambda job: ran.append(1))
    others = [worker.submit(lambda job: None)]
    with pytest.raises(Busy):
        worker.submit(lambda job: None)
    waiting.cancel('too late')
    with pytest.raises(Cancelled, match='too late'):
        waiting.result()
    others.append(worker.submit(lambda job: None))
    release.set()
    for job in others:
        job.result()
    assert not ran


def test_requests_come_before_idle_work(make_worker):
    order, finished = [], threading.Event()
    pending = ['frame']

    def next_idle():
        return (lambda job: order.append(pending.pop()) or finished.set()) if pending else None

    worker = make_worker(next_idle)
    work, started, release = blocker()
    worker.submit(work)
    assert started.wait(TIMEOUT_S)
    worker.wake()
    job = worker.submit(lambda job: order.append('request'))
    release.set()
    job.result()
    assert finished.wait(TIMEOUT_S)
    assert order == ['request', 'frame']


def test_stop_ends_what_runs_and_answers_what_waits(make_worker):
    work, started, _ = blocker()
    idle_started = threading.Event()

    def idle(job):
        idle_started.set()
        while True:
            job.check()
            threading.Event().wait(0.005)

    worker = make_worker(lambda: idle)
    worker.wake()
    assert idle_started.wait(TIMEOUT_S)
    waiting = worker.submit(work)
    assert worker.stop('shutting down', TIMEOUT_S)
    assert not started.is_set()
    with pytest.raises(Cancelled, match='shutting down'):
        waiting.result()
    with pytest.raises(Cancelled, match='shutting down'):
        worker.submit(work)


ERRORS = [ValueError('odd'), KeyError('lost'), SystemExit('done'), MemoryError('full')]


@pytest.mark.parametrize('error', ERRORS)
@pytest.mark.parametrize('where', ['finding', 'doing'])
def test_idle_work_that_fails_is_reported_and_ends_nothing(make_worker, where, error):
    reported, done = [], threading.Event()

    def fail(*_):
        raise error

    turns = iter([fail if where == 'doing' else None, lambda job: done.set()])

    def next_idle():
        turn = next(turns)
        return turn or fail()

    def on_error(error):
        reported.append(error)
        raise OSError('nor does a report that fails')

    worker = make_worker(next_idle, on_error=on_error)
    worker.wake()
    job = worker.submit(lambda job: 'served')
    assert job.wait(TIMEOUT_S)
    while not reported:  # the request may have come first
        assert worker.submit(lambda job: None).wait(TIMEOUT_S)
    assert reported == [error]
    worker.wake()
    assert done.wait(TIMEOUT_S)
    assert worker.alive


def test_a_cancelled_idle_work_is_no_error(make_worker):
    reported, started = [], threading.Event()

    def idle(job):
        started.set()
        while True:
            job.check()

    worker = make_worker(lambda: idle, on_error=reported.append)
    worker.wake()
    assert started.wait(TIMEOUT_S)
    assert worker.stop('enough', TIMEOUT_S)
    assert reported == []


def test_what_comes_before_the_start_is_done_after_it(make_worker):
    done = threading.Event()
    worker = make_worker(lambda: lambda job: done.set(), start=False)
    worker.wake()
    job = worker.submit(lambda job: 'early')
    assert not worker.alive
    worker.start()
    assert job.wait(TIMEOUT_S)
    assert job.result() == 'early'
    assert done.wait(TIMEOUT_S)


def test_a_worker_that_was_never_started_can_be_stopped(make_worker):
    worker = make_worker(start=False)
    job = worker.submit(lambda job: None)
    assert worker.stop('not activated', TIMEOUT_S)
    with pytest.raises(Cancelled, match='not activated'):
        job.result()
    with pytest.raises(Cancelled, match='not activated'):
        worker.submit(lambda job: None)


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_a_worker_that_dies_answers_who_waits(make_worker, monkeypatch):
    worker = make_worker()
    work, started, release = blocker()
    running = worker.submit(work)
    assert started.wait(TIMEOUT_S)
    waiting = worker.submit(lambda job: None)

    def die():
        raise SystemExit

    monkeypatch.setattr(worker, '_turn', die)
    release.set()
    assert running.result() == 'released'
    assert waiting.wait(TIMEOUT_S)
    with pytest.raises(Cancelled, match='worker has ended'):
        waiting.result()
    with pytest.raises(Cancelled, match='worker has ended'):
        worker.submit(work)
    assert worker.stop('end', TIMEOUT_S)
    assert not worker.alive
