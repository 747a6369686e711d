"""Inference services: latency, errors, SLOs and error budgets, queues and replicas."""

from board import SERVICE, Board, Panel, Row

from rules import burn_rate

LABEL = "{{service}}"
# The error budget comes from the SLO file, as it does for the alerts, so that both agree.
[PROMISE] = [slo for path in burn_rate.sources() for slo in burn_rate.read(path)]
BUDGET = f"{PROMISE.budget:g}"


def quantile(share: float) -> str:
    """PromQL for the request duration at quantile `share` (0 to 1), by service."""
    buckets = f"rate(inference_request_duration_seconds_bucket{{{SERVICE}}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (service, le) ({buckets}))"


ROWS = (
    Row("Current state", 4, (
        Panel("stat", 4, "Request rate", "Requests per second over the selected services.", "reqps",
              ((f"sum(rate(inference_requests_total{{{SERVICE}}}[$__rate_interval]))", "requests"),)),
        Panel("stat", 4, "Error ratio", "Share of requests that end with a server error (5xx). Red means more "
              "than the SLO allows; see Error budget burn rate.", "percentunit",
              ((f"(sum(rate(inference_requests_total{{{SERVICE},code=~\"5..\"}}[$__rate_interval])) "
                f"or vector(0)) / sum(rate(inference_requests_total{{{SERVICE}}}[$__rate_interval]))",
                "errors"),), bad_from=PROMISE.budget),
        Panel("stat", 4, "p99 latency", "99th percentile of the request duration, in seconds: 99 % of the "
              "requests are faster.", "s",
              ((quantile(0.99), "p99"),)),
        Panel("stat", 4, "Requests waiting", "Number of requests that wait for a replica. Normal is close to 0; "
              "see Waiting requests per replica.", "short",
              ((f"sum(inference_requests_waiting{{{SERVICE}}})", "waiting"),)),
        Panel("stat", 4, "Requests running", "Number of requests that replicas are answering.", "short",
              ((f"sum(inference_requests_running{{{SERVICE}}})", "running"),)),
        Panel("stat", 4, "Replicas", "Number of replicas that take requests, over the selected services.", "short",
              ((f"sum(max by (service) (inference_replicas{{{SERVICE}}}))", "replicas"),)),
    )),
    Row("Latency and requests", 8, (
        Panel("lines", 12, "Request latency (p50, p95, p99)", "50th, 95th and 99th percentile of the request "
              "duration, in seconds. Alert InferenceLatencyHigh compares p99 with the latency objective.", "s", (
            (quantile(0.5), "{{service}} p50"), (quantile(0.95), "{{service}} p95"),
            (quantile(0.99), "{{service}} p99"))),
        Panel("lines", 12, "Requests by status code", "Requests per second, by service and HTTP status code. "
              "Codes 5xx count against the error budget.", "reqps",
              ((f"sum by (service, code) (rate(inference_requests_total{{{SERVICE}}}[$__rate_interval]))",
                "{{service}} {{code}}"),)),
    )),
    Row("SLOs and error budgets", 8, (
        Panel("lines", 12, "Error budget burn rate", "Error ratio divided by the error ratio that the SLO "
              "allows. Normal is at most 1; at 14.4 the budget of 30 days lasts two days (threshold of alert "
              "InferenceErrorBudgetBurnFast).", "none",
              ((f"service:inference_errors:ratio_rate1h{{{SERVICE}}} / {BUDGET}", "{{service}} 1 h"),
               (f"service:inference_errors:ratio_rate5m{{{SERVICE}}} / {BUDGET}", "{{service}} 5 min")),
              bad_from=14.4, alert="InferenceErrorBudgetBurnFast"),
        Panel("lines", 12, "Error budget remaining (3 d)", "Share of the error budget of the last three days "
              "that is not used. At 0 % the service has exceeded its SLO over these days.", "percentunit",
              ((f"1 - service:inference_errors:ratio_rate3d{{{SERVICE}}} / {BUDGET}", LABEL),),
              top=1, signed=True),
    )),
    Row("Queues and replicas", 8, (
        Panel("lines", 8, "Waiting requests per replica", "Number of waiting requests divided by the number of "
              "replicas. Alert InferenceQueueGrowing fires above 4.", "short",
              ((f"sum by (service) (inference_requests_waiting{{{SERVICE}}}) / on (service) "
                f"max by (service) (inference_replicas{{{SERVICE}}})", LABEL),), bad_from=4,
              alert="InferenceQueueGrowing"),
        Panel("lines", 8, "Replicas by service", "Number of replicas that take requests. The remediator scales "
              "services out and in; see the Remediation dashboard.", "short",
              ((f"max by (service) (inference_replicas{{{SERVICE}}})", LABEL),)),
        Panel("lines", 8, "Token throughput", "Tokens generated per second by each service.", "short",
              ((f"sum by (service) (rate(inference_tokens_generated_total{{{SERVICE}}}[$__rate_interval]))",
                LABEL),)),
        Panel("lines", 12, "Running requests by replica", "Number of requests that each replica is answering. A "
              "replica that holds requests and generates no tokens is stuck (alert InferenceReplicaStuck).",
              "short",
              ((f"sum by (service, replica) (inference_requests_running{{{SERVICE}}})",
                "{{service}} {{replica}}"),)),
        Panel("lines", 12, "Token throughput by replica", "Tokens generated per second by each replica. Compare "
              "it with Running requests by replica to find a stuck replica.", "short",
              ((f"sum by (service, replica) (rate(inference_tokens_generated_total{{{SERVICE}}}"
                "[$__rate_interval]))", "{{service}} {{replica}}"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "service", "Services and SLOs", "Latency, errors, SLOs, error budgets, queues and replicas of inference services.",
    ("cluster", "service"), ROWS,
)  # fmt: skip
