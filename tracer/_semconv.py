"""Attribute keys, in one place.

``gen_ai.*``, ``server.*``, ``http.*``, ``error.*`` and ``exception.*`` are OpenTelemetry's semantic conventions,
pinned to the version below because the GenAI part is still marked "development"
(https://opentelemetry.io/docs/specs/semconv/gen-ai/). Keys that the conventions lack begin with ``tracer.``.
"""

from __future__ import annotations

SEMCONV_VERSION = "1.38.0"

# --- the call -----------------------------------------------------------------------------------------------------
OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
OUTPUT_TYPE = "gen_ai.output.type"
CONVERSATION_ID = "gen_ai.conversation.id"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_TYPE = "gen_ai.tool.type"
AGENT_NAME = "gen_ai.agent.name"
AGENT_ID = "gen_ai.agent.id"  # the assistant of a run
DATA_SOURCE_ID = "gen_ai.data_source.id"  # the vector store that was searched
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
HTTP_STATUS_CODE = "http.response.status_code"
ERROR_TYPE = "error.type"
CODE_FUNCTION_NAME = "code.function.name"  # of a function under @trace: module and qualified name
VARIABLE_PARAMETERS = "tracer.variable_parameters"  # names of its *parts and **options; for the worker, not stored

# --- a request to your own service (`tracer.asgi`) ----------------------------------------------------------------
HTTP_REQUEST_METHOD = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL = "http.request.method_original"
HTTP_ROUTE = "http.route"
URL_PATH = "url.path"
URL_SCHEME = "url.scheme"
NETWORK_PROTOCOL_VERSION = "network.protocol.version"

# --- the request --------------------------------------------------------------------------------------------------
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_TOP_K = "gen_ai.request.top_k"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_FREQUENCY_PENALTY = "gen_ai.request.frequency_penalty"
REQUEST_PRESENCE_PENALTY = "gen_ai.request.presence_penalty"
REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_CHOICE_COUNT = "gen_ai.request.choice.count"
REQUEST_ENCODING_FORMATS = "gen_ai.request.encoding_formats"
REQUEST_REASONING_EFFORT = "openai.request.reasoning_effort"
REQUEST_SERVICE_TIER = "openai.request.service_tier"
EMBEDDINGS_DIMENSION_COUNT = "gen_ai.embeddings.dimension.count"

# --- the response -------------------------------------------------------------------------------------------------
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_SERVICE_TIER = "openai.response.service_tier"
RESPONSE_SYSTEM_FINGERPRINT = "openai.response.system_fingerprint"
USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION_INPUT_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
USAGE_COST = "gen_ai.usage.cost"  # US dollars; not in the conventions, but what several tools write and read

# --- span events --------------------------------------------------------------------------------------------------
EVENT_CHUNK = "gen_ai.chunk"
EVENT_RETRY = "tracer.retry"
EVENT_EXCEPTION = "exception"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACKTRACE = "exception.stacktrace"

# --- what the conventions lack ------------------------------------------------------------------------------------
SPAN_NAME = "tracer.span.name"  # sent by OTLP: the span's own name, if another is sent in its place
SPAN_TYPE = "tracer.span.type"  # sent by OTLP
FINISH = "tracer.finish"  # completed | incomplete | failed | cancelled | abandoned
STREAM = "tracer.request.stream"
BASE64_VECTORS = "tracer.request.base64_vectors"  # the caller got vectors as they came, not decoded by the SDK
PREVIOUS_RESPONSE_ID = "tracer.request.previous_response_id"
MCP_SERVER_LABEL = "tracer.mcp.server_label"  # of a tool call that OpenAI ran on an MCP server
MCP_APPROVAL_REQUESTS = "tracer.mcp.approval_requests"  # [{"id", "name", "arguments", "server_label"}] to be approved
MCP_APPROVAL_REQUEST_ID = "tracer.mcp.approval_request_id"  # of the request that was approved before the tool call
CONTAINER_ID = "tracer.container_id"  # of the container in which OpenAI ran code or a shell
TOOL_PHASES = "tracer.tool.phases"  # {"searching": 0.2, …}: seconds from the tool span's start to its stream events
OUTPUT_SCHEMA = "tracer.request.output_schema"
REQUEST_ID = "tracer.response.request_id"  # the x-request-id header
RETRIES = "tracer.retries"
TIME_TO_FIRST_CHUNK = "tracer.time_to_first_chunk"  # seconds, from the span's start
TIME_TO_FIRST_TOKEN = "tracer.time_to_first_token"  # seconds, to the first chunk that holds content
TOOL_CALLS = "tracer.tool_calls"  # [{"id", "name", "arguments"}] the model asked for
CITATIONS = "tracer.citations"  # [{"type": "url_citation", "url", "title", "start_index", …}] of the answer
REASONING = "tracer.reasoning"  # summary of the model's reasoning, or all of it if the server sends it; may be cut
TOTAL_TOKENS = "tracer.usage.total_tokens"
COST_CHARGED = "tracer.cost.charged"  # US dollars that the server says it charged for the call
REASONING_TOKENS = "tracer.usage.reasoning_tokens"
INPUT_AUDIO_TOKENS = "tracer.usage.input_audio_tokens"
OUTPUT_AUDIO_TOKENS = "tracer.usage.output_audio_tokens"
WEB_SEARCHES = "tracer.usage.web_searches"  # searches that OpenAI ran and charges for by the call
FILE_SEARCHES = "tracer.usage.file_searches"
INPUT_IMAGE_TOKENS = "tracer.usage.input_image_tokens"
OUTPUT_IMAGE_TOKENS = "tracer.usage.output_image_tokens"
AUDIO_SECONDS = "tracer.usage.audio_seconds"  # of audio that is billed by duration and not by tokens
INPUT_CHARACTERS = "tracer.usage.input_characters"  # of a text to be spoken; some models are billed by characters
SVG_USAGE = "tracer.usage.svg"  # tokens of the model that drew vectors; not included in the call's own
COST_INPUT = "tracer.cost.input"  # US dollars: the parts of a span's cost, where they are known
COST_OUTPUT = "tracer.cost.output"
OUTPUT_BYTES = "tracer.output_bytes"  # of a binary answer
OUTPUT_CONTENT_TYPE = "tracer.output_content_type"
MODERATION_FLAGGED = "tracer.moderation.flagged"
MODERATION_CATEGORIES = "tracer.moderation.categories"  # those that were flagged
RETRIEVAL_DOCUMENTS = "tracer.retrieval.documents"  # [{"id", "score", "text"}]; a long text is cut
RESPONSE_STATUS = "tracer.response.status"  # of a job: queued, in_progress, completed, …
JOB_TRACE_ID = "tracer.job.trace_id"  # of the call that started the job whose end this call saw
JOB_SPAN_ID = "tracer.job.span_id"
JOB_POLLS = "tracer.job.polls"  # how often the job was polled, including this time
JOB_ELAPSED = "tracer.job.elapsed"  # seconds, from the start of the call that started the job
JOB_QUEUE_TIME = "tracer.job.queue_time"  # seconds until it was first seen running; the real time is not longer
JOB_SERVER_TIME = "tracer.job.server_time"  # completed_at - created_at, whole seconds of the server's clock
AGENT_TOOLS = "tracer.agent.tools"  # names of the tools that the agent may use
AGENT_HANDOFFS = "tracer.agent.handoffs"  # names of the agents that it may hand over to
AGENT_OUTPUT_TYPE = "tracer.agent.output_type"
AGENT_TURN = "tracer.agent.turn"  # 1 is the first
RUN_RESUMED = "tracer.agent.resumed"  # the run goes on from a saved state
HANDOFF_FROM = "tracer.handoff.from_agent"
HANDOFF_TO = "tracer.handoff.to_agent"
GUARDRAIL_TRIGGERED = "tracer.guardrail.triggered"
AGENTS_TRACE_ID = "tracer.agents.trace_id"  # the Agents SDK's own id, as in OpenAI's dashboard
WORKFLOW_NAME = "tracer.workflow.name"  # the Agents SDK's `workflow_name`
AUDIO_INPUT_BYTES = "tracer.audio.input_bytes"  # of audio, not of its base64; always counted, stored on request only
AUDIO_OUTPUT_BYTES = "tracer.audio.output_bytes"
TIME_TO_FIRST_AUDIO = "tracer.time_to_first_audio"  # seconds, from the span's start
INPUT_TRANSCRIPT = "tracer.input_transcript"  # of the user's speech, if it came after the response had begun
WEBSOCKET_SESSION_ID = "tracer.websocket.session_id"  # the server's own
WEBSOCKET_EVENTS_SENT = "tracer.websocket.events_sent"
WEBSOCKET_EVENTS_RECEIVED = "tracer.websocket.events_received"
WEBSOCKET_RESPONSES = "tracer.websocket.responses"
WEBSOCKET_RECONNECTS = "tracer.websocket.reconnects"
WEBSOCKET_CLOSE_CODE = "tracer.websocket.close_code"  # 1006: without a close frame
WEBSOCKET_CLOSE_REASON = "tracer.websocket.close_reason"
EVENT_RECONNECT = "tracer.reconnect"
CLIENT_REQUEST_ID = "tracer.client_request_id"  # in a trace's metadata: what its client calls the request
NOTE = "tracer.note"  # what could not be understood, and why the raw text is kept instead
TRUNCATED = "tracer.truncated"  # {"inputs"|"outputs"|"chunks"|"attributes"|"exceptions": how much was left out}
PAYLOAD_DROPPED = "tracer.payload_dropped"  # the queue was over 90 % full: the body was not kept
BODY_LEFT_OUT = "tracer.body_left_out"  # inputs and outputs were not kept, as keep_bodies says
OPERATION = "tracer.operation"  # key of tracer.openai._operations
HEADERS_PREFIX = "http.response.header."
RATE_LIMIT = "tracer.rate_limit"  # the x-ratelimit-* headers, without that prefix: {"remaining-tokens": "1999000"}
