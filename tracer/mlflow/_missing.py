"""What MLflow 3.17.2 has and tracer has not, each with what to use (`tests/mlflow/names.json` is MLflow's list)."""

from __future__ import annotations

__all__ = ["MEMBERS", "NAMES", "OTHERWISE", "PARAMETERS", "RECORDED"]

_RUNS = (
    "tracer has no runs: put traces into experiments (set_experiment) and mark them with tags (update_current_trace)"
)
_MODELS = "tracer stores traces and no models; keep MLflow beside it for those"
_DATA = "tracer stores traces and no data sets; keep MLflow beside it for those"
_SERVER = "tracer has no tracking client: call get_trace, search_traces, set_trace_tag, … of tracer.mlflow itself"
_PLATFORM = "tracer is a library with one database, without server, workspaces and gateway; keep MLflow for those"
_LIBRARY = "what goes through the openai package is seen by openai.autolog; docs/coverage.md lists libraries"
_PROMPTS = "tracer has no prompt registry; keep prompts in your code and name them in a tag"
_EVALUATION = "tracer has no evaluation; log_feedback stores what your own checks say"
_EXPERIMENTS = "an experiment is a name: set_experiment(name) begins it, search_traces(experiment_ids=[name]) reads it"
_ISSUES = "use log_feedback with a label as its value"
_ONE_PARENT = "a span has one parent: start_span_no_context(name, parent_span=…)"
_DATABASE = "tracer keeps traces in the database of set_tracking_uri"
_INSIDE = "this is inside MLflow; what it is for is in tracer.mlflow, tracer.mlflow.tracing and tracer.mlflow.entities"
_ENTITIES = "import it from tracer.mlflow.entities"
_TRACING = "import its functions from tracer.mlflow or tracer.mlflow.tracing"
_KEYS = "no trace of tracer has such keys"
_CAUGHT = "tracer.mlflow raises MlflowException for everything; its __cause__ is tracer's own error"
_ENDED = (
    "a running span has none; read it once it has ended: get_trace(span.trace_id).search_spans(span_id=span.span_id)"
)
RECORDED = "a trace is made by recording it (start_span, start_span_no_context) and read by get_trace"
_WIRE = "this is a format of MLflow's server; to_dict() gives plain data"

OTHERWISE = "only MLflow's tracing is here; docs/mlflow.md lists it. For the rest, keep MLflow beside it"


def _each(*groups: tuple[str, str]) -> dict[str, str]:
    return {name: remedy for remedy, names in groups for name in names.split()}


NAMES = {  # by module below tracer.mlflow
    "": _each(
        (
            _RUNS,
            """
            start_run end_run active_run last_active_run get_run get_parent_run delete_run restore_run search_runs
            ActiveRun RunOperations log_param log_params log_metric log_metrics log_artifact log_artifacts log_dict
            log_figure log_image log_table log_text log_stream load_table get_artifact_uri artifacts Image set_tag
            set_tags delete_tag flush_async_logging flush_artifact_async_logging run projects metrics system_metrics
            import_checkpoints enable_system_metrics_logging disable_system_metrics_logging set_system_metrics_node_id
            set_system_metrics_samples_before_logging set_system_metrics_sampling_interval
            """,
        ),
        (
            _MODELS,
            """
            ActiveModel set_active_model clear_active_model get_active_model_id create_external_model models model
            log_model load_model save_model register_model pyfunc rfunc initialize_logged_model get_logged_model
            finalize_logged_model last_logged_model search_logged_models search_registered_models
            search_model_versions log_model_params log_outputs set_logged_model_tags delete_logged_model_tag
            set_model_version_tag catboost diffusers h2o johnsnowlabs keras lightgbm mismatch ml_package_versions onnx
            paddle pmdarima prophet pyspark pytorch sentence_transformers shap sklearn spacy spark statsmodels
            tensorflow transformers xgboost
            """,
        ),
        (_DATA, "data log_input log_inputs types"),
        (_SERVER, "MlflowClient client tracking"),
        (
            _PLATFORM,
            """
            login gateway azure typesafe agent get_registry_uri set_registry_uri create_workspace delete_workspace
            get_workspace list_workspaces set_workspace update_workspace legacy_databricks_cli telemetry
            set_telemetry_client
            """,
        ),
        (
            _LIBRARY,
            """
            ag2 agno anthropic autogen bedrock crewai dspy gemini groq haystack langchain litellm llama_index mistral
            otel pydantic_ai semantic_kernel smolagents strands txtai
            """,
        ),
        (
            _PROMPTS,
            "prompt load_prompt register_prompt search_prompts set_prompt_alias delete_prompt_alias",
        ),
        (_EVALUATION, "genai evaluate validate_evaluation_results test pytest"),
        (
            _EXPERIMENTS,
            """
            create_experiment delete_experiment restore_experiment get_experiment get_experiment_by_name
            search_experiments set_experiment_tag set_experiment_tags delete_experiment_tag
            """,
        ),
        (
            _INSIDE,
            """
            LazyLoader MLFLOW_CONFIGURE_LOGGING environment_variables error_classification protos store utils version
            maybe_hint_tracing_skill
            """,
        ),
        ("run the command `tracer doctor`", "doctor"),
        ("get_tracking_uri() says where traces go, set or not", "is_tracking_uri_set"),
        ("tracer can't merge a trace from elsewhere; get_trace of the process that recorded it has it", "add_trace"),
        (
            "use start_span_no_context(name, inputs=…, start_time_ns=…) and span.end(outputs=…, end_time_ns=…)",
            "log_trace",
        ),
        ("use search_traces(filter_string=\"session_id = '…'\"), or the page (tracer ui)", "search_sessions"),
        ("log a new one and delete the old one (log_feedback, delete_assessment)", "update_assessment"),
        ("log a new one; the newest counts", "override_feedback"),
        (_ISSUES, "log_issue"),
    ),
    "openai": _each((_MODELS, "FLAVOR_NAME constant load_model log_model model save_model"), (_INSIDE, "utils")),
    "config": _each(
        (
            _RUNS,
            """
            enable_system_metrics_logging disable_system_metrics_logging set_system_metrics_node_id
            set_system_metrics_samples_before_logging set_system_metrics_sampling_interval
            """,
        ),
        (_PLATFORM, "get_registry_uri set_registry_uri"),
        ("get_tracking_uri() says where traces go, set or not", "is_tracking_uri_set"),
    ),
    "exceptions": _each(
        (
            _CAUGHT,
            """
            ABORTED ExecutionException InvalidUrlException MissingConfigException MlflowNotImplementedException
            MlflowTraceArchivalMalformedTrace MlflowTraceDataCorrupted MlflowTraceDataException
            MlflowTraceDataNotFound MlflowTracingException RestException get_error_code
            """,
        ),
    ),
    "tracing": _each(
        (
            _DATABASE,
            """
            set_destination destination set_experiment_trace_location unset_experiment_trace_location enablement
            databricks set_databricks_monitoring_sql_warehouse_id trace_archival_config
            """,
        ),
        (
            "tracer does not go through OpenTelemetry's tracer providers; both can run in one process",
            "get_bridged_tracer_provider provider otel",
        ),
        ("tracer.configure(sample_rate=…) or @trace(sampling_ratio_override=…)", "sampling"),
        (_TRACING, "assessment client config display fluent"),
        (_INSIDE, "analysis attachments export processor trace_manager utils"),
    ),
    "tracing.constant": _each(
        (
            _KEYS,
            """
            AssessmentMetadataKey AssessmentMetricDimensionKey AssessmentMetricKey AssessmentMetricSearchKey
            GenAiSemconvKey SpanMetricDimensionKey SpanMetricKey SpanMetricSearchKey SpansLocation
            TraceArchivalFailureReason TraceExperimentTagKey TraceMetricDimensionKey TraceMetricKey
            TraceMetricSearchKey TraceSizeStatsKey ASSESSMENT_ID_PREFIX DATABRICKS_OPTIONS_KEY DATABRICKS_OUTPUT_KEY
            MAX_CHARS_IN_TRACE_INFO_METADATA MAX_CHARS_IN_TRACE_INFO_TAGS_KEY MAX_CHARS_IN_TRACE_INFO_TAGS_VALUE
            RETURN_TRACE_OPTION_KEY TRACE_ID_V4_PREFIX TRACE_RENDERER_ASSET_PATH TRACE_REQUEST_ID_PREFIX
            TRACE_REQUEST_RESPONSE_PREVIEW_MAX_LENGTH_DBX TRACE_REQUEST_RESPONSE_PREVIEW_MAX_LENGTH_OSS
            TRACE_SCHEMA_VERSION TRACE_SCHEMA_VERSION_KEY TRUNCATION_SUFFIX
            """,
        ),
    ),
    "entities": _each(
        (
            _RUNS,
            """
            FileInfo LifecycleStage Metric Param Run RunData RunInfo RunInputs RunOutputs RunStatus RunTag SourceType
            ViewType file_info lifecycle_stage metric param run run_data run_info run_inputs run_outputs run_status
            run_tag source_type view_type
            """,
        ),
        (
            _MODELS,
            """
            LoggedModel LoggedModelInput LoggedModelOutput LoggedModelParameter LoggedModelStatus LoggedModelTag
            logged_model logged_model_input logged_model_output logged_model_parameter logged_model_status
            logged_model_tag model_registry
            """,
        ),
        (
            _DATA,
            """
            Dataset DatasetInput DatasetRecord DatasetRecordSource DatasetRecordSourceType EntityAssociationType
            InputTag dataset dataset_input dataset_record dataset_record_source dataset_summary entity_type
            evaluation_dataset input_tag
            """,
        ),
        (
            _PLATFORM,
            """
            BudgetAction BudgetDuration BudgetDurationUnit BudgetTargetScope BudgetUnit ConnectOptionSettings
            FallbackConfig FallbackStrategy GatewayBudgetPolicy GatewayEndpoint GatewayEndpointBinding
            GatewayEndpointModelConfig GatewayEndpointModelMapping GatewayEndpointTag GatewayGuardrail
            GatewayGuardrailConfig GatewayModelDefinition GatewayModelLinkageType GatewayResourceType
            GatewaySecretInfo GuardrailAction GuardrailStage MCPAccessEndpoint MCPRemoteTransportType MCPServer
            MCPServerVersion MCPStatus MCPTool RoutingStrategy Webhook WebhookEvent WebhookStatus WebhookTestResult
            Workspace WorkspaceDeletionMode gateway_budget_policy gateway_endpoint gateway_guardrail gateway_secrets
            mcp_access_endpoint mcp_server mcp_server_version multipart_upload presigned_download webhook workspace
            """,
        ),
        (
            _DATABASE,
            """
            InferenceTableLocation MlflowExperimentLocation TraceArchivalConfig TraceLocation TraceLocationType
            UCSchemaLocation UnityCatalog trace_location
            """,
        ),
        (_EXPERIMENTS, "Experiment ExperimentTag experiment experiment_tag"),
        (_PROMPTS, "Prompt"),
        (_EVALUATION, "ScorerVersion scorer"),
        (_ISSUES, "Issue IssueReference IssueSeverity IssueStatus issue"),
        (_ONE_PARENT, "Link link"),
        (
            "a judge that failed: use log_feedback with a label as its value, and the error as rationale",
            "AssessmentError",
        ),
        ("what is not recorded is a LiveSpan whose is_recording is False", "NoOpSpan"),
        ("use search_traces(filter_string=\"session_id = '…'\")", "Session session"),
        (
            _ENTITIES,
            """
            assessment_error assessment_source span_event span_log_level span_status trace_data trace_state
            trace_status
            """,
        ),
        (_INSIDE, "trace_info_v2 trace_metrics"),
    ),
}

_DICTIONARIES = (RECORDED, "from_dict from_dictionary from_json")
_PROTO = (_WIRE, "from_proto to_proto to_otel_proto from_otel_proto")

MEMBERS = {  # by class
    "LiveSpan": _each(
        (_ONE_PARENT, "add_link links"),
        (_ENDED, "events llm_cost model_name to_dict to_immutable_span"),
        (RECORDED, "from_dict from_dict_v2 from_immutable_span"),
        _PROTO,
    ),
    "Span": _each(
        (_ONE_PARENT, "links"),
        (RECORDED, "from_dict from_dict_v2 from_stored_content"),
        (_WIRE, "json_for_export"),
        _PROTO,
    ),
    "SpanEvent": _each(
        ("use span.record_exception(error)", "from_exception"),
        ("use SpanEvent(name, timestamp, attributes) and its fields", "from_dictionary json"),
        _PROTO,
    ),
    "Trace": _each(_DICTIONARIES, _PROTO),
    "TraceData": _each(
        _DICTIONARIES,
        (_WIRE, "to_json_bytes"),
        ("read span.outputs of the spans", "intermediate_outputs"),
    ),
    "TraceInfo": _each(_DICTIONARIES, _PROTO, ("experiment_id is the experiment; " + _DATABASE, "trace_location")),
    "Assessment": _each(("use Feedback(…) or Expectation(…)", "from_dictionary"), _PROTO),
    "AssessmentSource": _each(_PROTO),
    "AssessmentSourceType": _each(_PROTO),
    "MlflowException": _each(
        (_CAUGHT, "error_class get_http_status_code invalid_parameter_value json_kwargs serialize_as_json sqlstate"),
    ),
}

PARAMETERS = {
    "trace_destination": "choose the experiment with set_experiment",
    "trace_location": _DATABASE,
    "run_id": _RUNS,
    "model_id": _MODELS,
    "links": _ONE_PARENT,
    "sql_warehouse_id": "tracer reads its own database",
    "extract_fields": "take them from span.inputs and span.outputs of search_traces(return_type='list')",
    "error": "put the error into the rationale, and give a value",
    "metadata": "put it into the rationale",
    "overrides": "log a new one; the newest counts",
    "experiment_id": "choose the experiment with set_experiment",
    "span_processors": "tracer.configure(redact=[…]) changes texts before they are stored (docs/privacy.md)",
    "extra_tags": "use tracing.context(tags=…)",
    "enable": "tracer always writes in the background; flush_trace_async_logging() waits until all is stored",
}
