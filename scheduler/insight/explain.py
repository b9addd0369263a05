"""Why a workload is where it is, for people: computed afresh from what the store says."""

from __future__ import annotations

from common.resources import Workload
from common.resources.workload import BUDGET_EXHAUSTED, STOPPED_BY_HAND, PendingReason
from scheduler.aside import is_set_aside
from scheduler.core.explain.kept_off import kept_off
from scheduler.core.model.runtimes import Prediction, run_ms
from scheduler.core.model.types import Admit, Defer
from scheduler.insight.answers import Explanation, QueueRow, RoleSize
from scheduler.insight.outlook import Outlook, is_stopped, is_stopping
from scheduler.nodes import LOST
from scheduler.translate.transitions import pending_reason
from scheduler.translate.views import holds_places, is_due, is_group

_STOPPED = {
    BUDGET_EXHAUSTED: (
        "somebody raises the budget's limit, or its next period begins",
        "it waits until the budget has room again",
    ),
    STOPPED_BY_HAND: (
        "an admin resumes what is paused (`computility pause` lists it)",
        "it waits until somebody lets it go on",
    ),
}
"""What lets a stopped workload go on, and why nobody knows when."""


def explain_workload(workload: Workload, outlook: Outlook) -> Explanation:
    """Phase, dominant reason, reasons per filter with node counts, what would make it fit, its place in its
    queue and when it is expected to start; of one that runs: since and until when, and how many ranks."""
    status = workload.status
    answer = Explanation(
        name=workload.name,
        project=workload.project or "",
        queue=workload.spec.queue,
        phase=status.phase,
        message=status.message,
        attempt=status.attempt,
        restarts=status.restarts,
        last_failure=status.last_failure,
        last_preemption=status.last_preemption,
        preempted_for=_winner(workload, outlook),
        next_start_ms=status.next_start_ms,
        ranks=status.ranks,
        reasons=status.pending,
        queue_numbers=outlook.queues.get(workload.spec.queue),
    )
    if holds_places(workload):
        _describe_gang(answer, workload, outlook)
    elif status.phase == "Suspended" or (status.phase == "Pending" and workload.spec.suspend):
        _say(answer, "Suspended", "it is suspended", "set spec.suspend to false")
        answer.no_eta = "it waits until somebody lets it run"
    elif is_group(workload):
        _say_of_replicas(answer, workload, outlook)
    elif status.phase == "Pending":
        _say_why_it_waits(answer, workload, outlook)
    return answer


def _winner(workload: Workload, outlook: Outlook) -> str:
    """``project/name`` of the workload that it made way for last."""
    last = workload.status.last_preemption
    winner = outlook.world.workloads.get(last.by_uid) if last is not None else None
    return f"{winner.project}/{winner.name}" if winner is not None else ""


def _say_of_replicas(answer: Explanation, group: Workload, outlook: Outlook) -> None:
    """What the first of the replicas that wait is told."""
    uid, workloads = group.metadata.uid, outlook.world.workloads
    replicas = {u: w for u, w in workloads.items() if w.metadata.owner and w.metadata.owner.uid == uid}
    first = next((replicas[u] for u in outlook.answers if u in replicas), None)
    if first is not None:
        _say_why_it_waits(answer, first, outlook)
        answer.message = f"{group.status.message}; {first.name}: {answer.message}".removeprefix("; ")


def _describe_gang(answer: Explanation, workload: Workload, outlook: Outlook) -> None:
    status, uid = workload.status, workload.metadata.uid
    gang = next((view for view in outlook.snapshot.running if view.workload.uid == uid), None)
    answer.since_ms = status.admitted_ms
    if gang is not None:
        answer.kept_off = kept_off(outlook.judging_pool, gang.workload, gang.placement)
    answer.leaves_by_ms = status.leaves_by_ms
    prediction = outlook.predictions.get(uid)
    seconds = prediction.seconds if prediction else None
    length_ms = run_ms(gang.workload, gang.placement, seconds) if gang is not None else None
    if status.admitted_ms is not None and length_ms is not None:
        answer.expected_end_ms = status.admitted_ms + length_ms
        answer.end_predicted_by = _words(prediction) if prediction else ""
    for role in workload.spec.roles:
        ranks = sum(rank.role == role.name for rank in status.ranks)
        least = role.replicas if role.min_replicas is None else role.min_replicas
        answer.sizes.append(RoleSize(role=role.name, ranks=ranks, least=least, most=role.replicas))


def _words(prediction: Prediction) -> str:
    """The runs that it was predicted by."""
    runs = f"last {prediction.runs} runs"
    return f"its {runs}" if prediction.alike != "kind and devices" else f"the {runs} of its kind and size"


def _say_why_it_waits(answer: Explanation, workload: Workload, outlook: Outlook) -> None:
    decision = outlook.answers.get(workload.metadata.uid)
    if workload.project not in outlook.world.projects:
        message = f"there is no project {workload.project}, so nobody could be charged"
        _say(answer, "ProjectUnknown", message, f"apply a Project named {workload.project}")
        answer.no_eta = "it waits until its project is there"
    elif is_set_aside(workload):
        answer.remedy = "change what the reason names; it is tried again as soon as its spec changes"
        answer.no_eta = "it is set aside until it can be handled"
    elif not is_due(workload, outlook.now_ms):
        _say_back_off(answer, workload)
    elif is_stopped(workload):
        code = next(one.code for one in workload.status.pending if one.code in _STOPPED)
        answer.remedy, answer.no_eta = _STOPPED[code]
    elif is_stopping(workload):
        answer.no_eta = "it depends on when its earlier processes end"
    elif isinstance(decision, Admit):
        answer.message = "fits now: the next cycle places it"
        answer.reasons, answer.eta_ms = [], outlook.now_ms
    elif decision is not None:
        _say_decision(answer, workload, decision, outlook)


def _say_back_off(answer: Explanation, workload: Workload) -> None:
    next_start_ms = workload.status.next_start_ms
    if next_start_ms is None:
        return
    restarts = workload.status.restarts
    times = "once" if restarts == 1 else f"{restarts} times"
    message = f"waits out its back-off: it has been restarted {times}"
    remedy = f"computility logs {workload.name} says why it ended; the pause doubles with each restart"
    _say(answer, "BackOff", message, remedy)
    answer.not_before_ms = next_start_ms
    answer.no_eta = "it is looked at again when its back-off is over"


def _say_decision(answer: Explanation, workload: Workload, decision: Defer, outlook: Outlook) -> None:
    uid, line = workload.metadata.uid, outlook.line(workload.spec.queue)
    answer.message = decision.reasons[0].message
    answer.reasons = [pending_reason(reason) for reason in decision.reasons]
    if any(reason.code == LOST for reason in decision.reasons):
        answer.reasons += _silences(outlook)
    answer.remedy = decision.remedy
    answer.never_fits = decision.never
    answer.position, answer.waiting = line.index(uid) + 1, len(line)
    answer.reserved_ms = decision.reserved_ms
    answer.eta_ms = outlook.start_ms(decision)
    answer.eta_predicted = answer.eta_ms is not None and outlook.is_guess(uid)
    if decision.reasons[0].code == "BudgetSpent":
        answer.not_before_ms = _renewal_ms(workload.spec.queue, outlook)
    if answer.eta_ms is None:
        answer.no_eta = outlook.why_no_start(decision)


def _silences(outlook: Outlook) -> list[PendingReason]:
    """Each node that is late, and for how long."""
    reasons = []
    for name, node in sorted(outlook.world.nodes.items()):
        late = node.status.condition("Responsive")
        if late is not None and late.status == "False" and node.status.is_true("Ready"):
            seconds = (outlook.now_ms - late.last_transition_ms) // 1000
            text = f"node {name} has not answered for {seconds} s: it is given nothing new until it does"
            reasons.append(PendingReason(code=late.reason, message=text, nodes=1))
    return reasons


def _renewal_ms(queue: str, outlook: Outlook) -> int | None:
    """When the last of the spent budgets of the queue, or of a cohort above it, renews."""
    renewals: list[int] = []
    row: QueueRow | None = outlook.queues.get(queue)
    while row is not None:
        renewals += [b.renews_ms for b in row.budgets if b.spent_device_seconds >= b.limit_device_seconds]
        row = outlook.queues.get(row.parent)
    return max(renewals, default=None)


def _say(answer: Explanation, code: str, message: str, remedy: str) -> None:
    answer.message, answer.remedy = message, remedy
    answer.reasons = [PendingReason(code=code, message=message)]
