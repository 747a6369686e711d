"""Inference services: what users feel, what is promised to them, and what it takes."""

from board import SERVICE, Board, Panel, Row

from rules import burn_rate

LABEL = "{{service}}"
# What the shipped promise lets go wrong: there its alerts and these pictures have it from.
[PROMISE] = [slo for path in burn_rate.sources() for slo in burn_rate.read(path)]
BUDGET = f"{PROMISE.budget:g}"


def quantile(share: float) -> str:
    """The duration below which that share of requests stays."""
    buckets = f"rate(inference_request_duration_seconds_bucket{{{SERVICE}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (service, le) ({buckets}))"


ROWS = (
    Row("Now", 4, (
        Panel("stat", 4, "Requests", "A second.", "reqps",
              ((f"sum(rate(inference_requests_total{{{SERVICE}}}[$__rate_interval]))", "requests"),)),
        Panel("stat", 4, "Failing", "Share of requests that fail.", "percentunit",
              ((f"(sum(rate(inference_requests_total{{{SERVICE},code=~\"5..\"}}[$__rate_interval])) "
                f"or vector(0)) / sum(rate(inference_requests_total{{{SERVICE}}}[$__rate_interval]))",
                "failing"),), bad_from=PROMISE.budget),
        Panel("stat", 4, "Slowest hundredth", "99 % of the requests are faster.", "s",
              ((quantile(0.99), "p99"),)),
        Panel("stat", 4, "Waiting", "Requests that wait for a worker.", "short",
              ((f"sum(inference_requests_waiting{{{SERVICE}}})", "waiting"),)),
        Panel("stat", 4, "Running", "Requests that are being answered.", "short",
              ((f"sum(inference_requests_running{{{SERVICE}}})", "running"),)),
        Panel("stat", 4, "Replicas", "Workers that serve.", "short",
              ((f"sum(max by (service) (inference_replicas{{{SERVICE}}}))", "replicas"),)),
    )),
    Row("What users feel", 8, (
        Panel("lines", 12, "Latency", "Half, 95 % and 99 % of the requests are faster.", "s", (
            (quantile(0.5), "{{service}} p50"), (quantile(0.95), "{{service}} p95"),
            (quantile(0.99), "{{service}} p99"))),
        Panel("lines", 12, "Requests by answer", "A second.", "reqps",
              ((f"sum by (service, code) (rate(inference_requests_total{{{SERVICE}}}[$__rate_interval]))",
                "{{service}} {{code}}"),)),
    )),
    Row("What is promised", 8, (
        Panel("lines", 12, "Error budget used up", "How many times as fast as the promise allows: at 14.4 "
              "a month's budget lasts two days.", "none",
              ((f"service:inference_errors:ratio_rate1h{{{SERVICE}}} / {BUDGET}", "{{service}} 1 h"),
               (f"service:inference_errors:ratio_rate5m{{{SERVICE}}} / {BUDGET}", "{{service}} 5 min")),
              bad_from=14.4, alert="InferenceErrorBudgetBurnFast"),
        Panel("lines", 12, "Error budget left", "Share of what three days allow.", "percentunit",
              ((f"1 - service:inference_errors:ratio_rate3d{{{SERVICE}}} / {BUDGET}", LABEL),),
              top=1),
    )),
    Row("What it takes", 8, (
        Panel("lines", 8, "Queue of a replica", "Requests that wait, for each replica.", "short",
              ((f"sum by (service) (inference_requests_waiting{{{SERVICE}}}) / on (service) "
                f"max by (service) (inference_replicas{{{SERVICE}}})", LABEL),), bad_from=4,
              alert="InferenceQueueGrowing"),
        Panel("lines", 8, "Replicas over time", "Workers that serve; the remediator adds and takes away.", "short",
              ((f"max by (service) (inference_replicas{{{SERVICE}}})", LABEL),)),
        Panel("lines", 8, "Tokens", "Generated, a second.", "short",
              ((f"sum by (service) (rate(inference_tokens_generated_total{{{SERVICE}}}[$__rate_interval]))",
                LABEL),)),
        Panel("lines", 12, "Running, by replica", "A replica that holds requests and makes no tokens is "
              "stuck.", "short",
              ((f"sum by (service, replica) (inference_requests_running{{{SERVICE}}})",
                "{{service}} {{replica}}"),)),
        Panel("lines", 12, "Tokens, by replica", "Generated, a second.", "short",
              ((f"sum by (service, replica) (rate(inference_tokens_generated_total{{{SERVICE}}}"
                "[$__rate_interval]))", "{{service}} {{replica}}"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "service", "services and promises", "Latency, errors, error budgets, queues and replicas.",
    ("cluster", "service"), ROWS,
)  # fmt: skip
