"""What is this job doing?"""

from __future__ import annotations

from deploy.boards.model import Board, Query, Row, Unit, Variable, lines, number, shares, table

_JOB = '{deepseekjob_namespace="$namespace", deepseekjob="$job"}'
_FORECAST = '{deepseekjob_namespace="$namespace", deepseekjob="$job", horizon="10m", quantile='
_BY_GPU = f"on (UUID) group_left () max by (UUID) (drse_gpu_assigned{_JOB})"
_CACHE = f'{{__name__=~"vllm:(kv|gpu)_cache_usage_perc|sglang:token_usage", {_JOB[1:-1]}}}'


JOB = Board(
    "drse-job",
    "What is this job doing?",
    "One DeepSeekJob: what it holds, what it carries, and how it is scaled.",
    (
        Row(
            "Now",
            (
                number("GPUs held", "", f"max(drse_job_gpus{_JOB})"),
                number("Replicas wanted", "", f"max(drse_job_wanted_replicas{_JOB})"),
                number("Replicas ready", "", f"max(drse_job_ready_replicas{_JOB})"),
                number("Load", "In GPU-equivalents.", f"max(drse:job_load:gpus{_JOB})"),
                number(
                    "GPUs busy",
                    "Mean utilisation of its GPUs.",
                    f"sum(drse:job_gpus_used:sum{_JOB}) / sum(drse:job_gpus_measured:count{_JOB})",
                    Unit.SHARE,
                ),
                number(
                    "Scaling frozen",
                    "1 while it is.",
                    f"max(drse_scaling_frozen{_JOB}) or vector(0)",
                    alarm=1,
                ),
            ),
        ),
        Row(
            "Load and capacity",
            (
                lines(
                    "Load, forecast and capacity",
                    "In GPU-equivalents. The forecast is the one for ten minutes from each moment.",
                    Query(f"max(drse:job_load:gpus{_JOB})", "load"),
                    Query(f"max(drse_job_gpus{_JOB})", "GPUs held"),
                    Query(f'max(drse_forecast_load{_FORECAST}"0.5"}})', "P50 in 10 min"),
                    Query(f'max(drse_forecast_load{_FORECAST}"0.9"}})', "P90 in 10 min"),
                    width=12,
                ),
                lines(
                    "Scaling",
                    "GPUs that are wanted, given and ready.",
                    Query(f"max(drse_scaling_wanted_gpus{_JOB})", "wanted"),
                    Query(f"max(drse_scaling_granted_gpus{_JOB})", "granted"),
                    Query(f"max(drse_scaling_current_gpus{_JOB})", "ready"),
                    width=12,
                ),
            ),
        ),
        Row(
            "Starts that were lost",
            (
                lines(
                    "Failed attempts and preemptions",
                    "So far.",
                    Query(f"max(drse_job_failures{_JOB})", "failed attempts"),
                    Query(f"max(drse_job_preemptions{_JOB})", "preempted"),
                    width=12,
                ),
                lines(
                    "Replicas",
                    "That it should have, that hold GPUs, and that are ready.",
                    Query(f"max(drse_job_wanted_replicas{_JOB})", "wanted"),
                    Query(f"max(drse_job_replicas{_JOB})", "with GPUs"),
                    Query(f"max(drse_job_ready_replicas{_JOB})", "ready"),
                    width=12,
                ),
            ),
        ),
        Row(
            "GPUs",
            (
                shares(
                    "Utilisation by GPU",
                    "By UUID.",
                    Query(f"max by (UUID) (drse:gpu_used:ratio{_JOB})", "{{UUID}}"),
                ),
                lines(
                    "Memory used by GPU",
                    "From DCGM.",
                    Query(f"max by (UUID) (DCGM_FI_DEV_FB_USED) * {_BY_GPU}", "{{UUID}}"),
                    unit=Unit.MEBIBYTES,
                ),
                table(
                    "Which GPUs",
                    "By UUID.",
                    Query(f"max by (UUID, queue) (drse_gpu_assigned{_JOB})"),
                    width=8,
                ),
            ),
        ),
        Row(
            "Requests",
            (
                lines(
                    "Requests in flight",
                    "Of all replicas.",
                    Query(
                        f'sum({{__name__=~"vllm:num_requests_running|sglang:num_running_reqs", '
                        f"{_JOB[1:-1]}}})",
                        "running",
                    ),
                    Query(
                        f'sum({{__name__=~"vllm:num_requests_waiting|sglang:num_queue_reqs", {_JOB[1:-1]}}})',
                        "waiting",
                    ),
                    Query(
                        f"max(drse_job_target_concurrency{_JOB}) * max(drse_job_ready_replicas{_JOB})",
                        "target of the ready replicas",
                    ),
                ),
                lines(
                    "Latency, p95",
                    "From request to last token, and to the first.",
                    Query(f"max(drse:job_request_latency_seconds:p95{_JOB})", "last token"),
                    Query(f"max(drse:job_first_token_seconds:p95{_JOB})", "first token"),
                    unit=Unit.SECONDS,
                ),
                shares("KV cache used", "By replica.", Query(f"max by (pod) ({_CACHE})", "{{pod}}")),
            ),
        ),
    ),
    (
        Variable("namespace", "Namespace", "drse_job_phase", "deepseekjob_namespace"),
        Variable("job", "Job", "drse_job_phase", "deepseekjob", '{deepseekjob_namespace="$namespace"}'),
    ),
)
