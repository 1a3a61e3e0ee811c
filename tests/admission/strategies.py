"""Random clusters and random jobs on them, small enough that everything interesting happens often."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from drse_operator.admission.planner import plan
from drse_operator.admission.snapshot import Job, Node, Snapshot
from drse_operator.api.enums import TaskType, TopologyMode, TopologyScope
from drse_operator.api.reasons import WaitReason
from drse_operator.sizing.shapes import AcceleratorKind, Refusal, Shape
from tests.admission.builders import NodePlan, State, carry_out, make_job, make_nodes, make_queue, snapshot

#: When plans are made in these tests; jobs arrive before, and some must not start yet.
NOW = 100.0
PRODUCTS = ("H100", "L40S", "Gaudi3")
QUEUES = ("chat", "research")


@st.composite
def node_plans(draw: st.DrawFn) -> NodePlan:
    gpus = draw(st.sampled_from((1, 2, 4, 8)))
    return NodePlan(
        product=draw(st.sampled_from(PRODUCTS)),
        gpus=gpus,
        held=draw(st.one_of(st.just(0), st.integers(0, gpus))),
        rack=draw(st.sampled_from(("", "rack-1", "rack-2"))),
        exact=draw(st.booleans()),
        pcie_roots=draw(st.sampled_from((1, 2))),
    )


def clusters(least: int = 1) -> st.SearchStrategy[tuple[Node, ...]]:
    """Nodes of up to three kinds, some of their GPUs held by strangers."""
    return st.lists(node_plans(), min_size=least, max_size=6).map(make_nodes)


@st.composite
def shapes_on(draw: st.DrawFn, kind: AcceleratorKind) -> Shape:
    """A replica that sizing would let through: no worker larger than a node, no replica than the cluster."""
    per_worker = draw(st.integers(1, kind.max_per_node))
    workers = draw(st.integers(1, min(3, kind.total // per_worker)))
    return Shape(kind, workers, per_worker, per_worker, workers, 0)


@st.composite
def jobs_on(draw: st.DrawFn, nodes: tuple[Node, ...], name: str) -> Job:
    """A job that holds nothing yet, with one shape for each of some kinds of accelerator."""
    kinds = sorted({node.kind for node in nodes}, key=lambda kind: kind.product)
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3, unique=True))
    refused = draw(st.integers(0, 9)) == 0
    task = draw(st.sampled_from((TaskType.INFERENCE, TaskType.PRE_TRAINING, TaskType.BATCH)))
    wanted = draw(st.integers(0, 4))
    return make_job(
        name,
        () if refused else [draw(shapes_on(kind)) for kind in chosen],
        queue=draw(st.sampled_from(QUEUES)),
        priority=draw(st.integers(0, 2)),
        at=float(draw(st.integers(0, 3))),
        wanted=wanted,
        first_unit=draw(st.integers(0, wanted)),
        task=task,
        refusal=Refusal(WaitReason.NO_SUCH_ACCELERATOR, "there is none") if refused else None,
        not_before=draw(st.sampled_from((0.0, 0.0, 0.0, NOW + 10))),
        clearing=draw(st.sampled_from(((), (), (), (0,), (1, 2)))),
        topology=draw(st.sampled_from((None, TopologyScope.RACK, TopologyScope.NODE))),
        mode=draw(st.sampled_from(tuple(TopologyMode))),
    )


@st.composite
def fresh_snapshots(draw: st.DrawFn) -> Snapshot:
    """A cluster in which none of our jobs holds anything yet."""
    nodes = draw(clusters())
    jobs = [draw(jobs_on(nodes, f"job-{i}")) for i in range(draw(st.integers(0, 7)))]
    limits = st.one_of(st.none(), st.integers(1, 12))
    return snapshot(nodes, jobs, *(make_queue(name, draw(limits)) for name in QUEUES))


@st.composite
def states(draw: st.DrawFn) -> State:
    """A cluster at work: what an earlier plan gave is held, some of it ready, and wishes have changed."""
    state = State(draw(fresh_snapshots()))
    state = carry_out(state, plan(state.snapshot, NOW))
    jobs = tuple(draw(_moved_on(job)) for job in state.snapshot.jobs)
    return State(replace(state.snapshot, jobs=jobs), state.given)


@st.composite
def _moved_on(draw: st.DrawFn, job: Job) -> Job:
    ready = {replica: draw(st.booleans()) for replica in job.held_replicas}
    wanted = draw(st.one_of(st.just(job.wanted), st.integers(0, 5)))
    return replace(
        job,
        wanted=wanted,
        first_unit=min(job.first_unit, wanted),
        holdings=tuple(replace(h, ready=ready[h.replica]) for h in job.holdings),
        clearing=frozenset(job.clearing - set(job.held_replicas) if draw(st.booleans()) else ()),
        not_before=0.0,
    )


def situations() -> st.SearchStrategy[State]:
    """Any state that a plan may meet."""
    return st.one_of(fresh_snapshots().map(State), states())
