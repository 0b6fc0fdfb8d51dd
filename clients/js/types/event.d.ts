// Made by scripts/event_types.py from the gateway's JSON Schemas. Do not edit.

export type JsonValue = unknown;

/** The upstream's own event type and its public payload; documented-internal fields never. */
export interface Native {
  type: string;
  payload: JsonValue;
}

/** Where a waiting task stands. */
export interface Queue {
  position: number | null;
  estimated_wait_seconds: number | null;
}

/** `data` of a `source.*` notice. */
export interface SourceData {
  source: string;
  adapter: string;
  /** path of the upstream connection, never its query */
  endpoint?: string | null;
  /** in words: why it disconnected or failed */
  error?: string | null;
  /** close code, HTTP status or the upstream's own error code */
  code?: string | null;
  from?: string | null;
  to?: string | null;
  /** the state of every known task was repaired */
  recovered?: boolean | null;
  /** task ids whose state could not be repaired */
  unverified?: string[] | null;
}

/** A notice of the gateway about one of its sources. */
export interface SourceEvent {
  specversion: "1.0";
  id: string;
  source: "/mainstem";
  type: `source.${string}`;
  /** the source's name */
  subject: string;
  time: string;
  datacontenttype: "application/json";
  dataschema: string;
  sequence: string;
  data: SourceData;
}

/** Canonical status of a task, in order of progress. */
export type Status = "pending" | "queued" | "dispatched" | "running" | "succeeded" | "failed" | "cancelled" | "deleted" | "unknown";

/** What the type of the notice calls for; see the AsyncAPI document. */
export interface StreamData {
  /** stream.opened: name of the connection, in the gateway's logs too */
  session?: string;
  /** stream.opened: current end of the log; stream.subscribed: what follows starts after this position */
  sequence?: string;
  /** stream.opened: name of the log */
  epoch?: string;
  /** stream.opened: space-separated; empty before authentication */
  scope?: string;
  /** stream.error: id of the subscription that the command named */
  id?: string | null;
  resume?: "live" | "replayed" | "snapshot" | "reset";
  /** stream.closing: the WebSocket close code that follows; SSE has no other way to tell it */
  code?: string | number;
  message?: string;
  /** stream.error: which part of the command, dotted, or parameter of the URL is meant */
  field?: string | null;
  task?: string;
  /** stream.conflated: how many of its progress events were folded away */
  skipped?: number;
  reason?: string;
  /** stream.closing: null: do not come back unchanged */
  reconnect_after_ms?: number | null;
}

/** A notice of the stream to one connection; never in the log. */
export interface StreamEvent {
  specversion: "1.0";
  id: string;
  source: "/mainstem";
  type: `stream.${string}`;
  subject?: string | null;
  time: string;
  datacontenttype: "application/json";
  dataschema: string;
  sequence: string;
  data: StreamData;
}

/** A task's state after the event. Keys are always present, null where unknown. */
export interface Task {
  /** "<source name>/<task id>" */
  key: string;
  id: string;
  /** name of the source in the configuration */
  source: string;
  adapter: string;
  /** Triverse flow name, emit job name, Catalyst "object-class:<id>" */
  kind: string | null;
  name: string | null;
  status: Status;
  /** the upstream's own word */
  native_status: string | null;
  progress: number | null;
  /** as the upstream numbers it */
  attempt: number | null;
  created_at: string | null;
  started_at: string | null;
  completed_at: string | null;
  queue: Queue | null;
  /** scheduling priority, known from a task creation response */
  priority: number | null;
  /** credits frozen for the task, known from a task creation response */
  cost_credits: number | null;
}

/** `data` of a `task.*` event. */
export interface TaskData {
  task: Task;
  /** fields that differ from the state before the event; empty on a snapshot */
  changed: string[];
  /** what belongs to this occurrence only: progress or checkpoint payload */
  detail: JsonValue;
  input: JsonValue;
  result: JsonValue;
  error: TaskError | null;
  origin: "live" | "catchup" | "reconcile" | "snapshot";
  /** a scope, ours or the upstream token's, removed fields */
  redacted: boolean;
  received_at: string;
  native: Native | null;
}

/** Why a task failed. */
export interface TaskError {
  code: string | number | null;
  message: string | null;
  suggestion: string | null;
}

/** An event of a task. */
export interface TaskEvent {
  specversion: "1.0";
  id: string;
  /** "/<adapter>/<source name>" */
  source: string;
  type: `task.${string}`;
  /** the upstream's task id */
  subject: string;
  time: string;
  datacontenttype: "application/json";
  dataschema: string;
  sequence: string;
  data: TaskData;
  /** "<source name>/<task id>" */
  partitionkey: string;
}

/** `data` of a `webhook.*` event. Never holds a secret or the value of a header. */
export interface WebhookData {
  /** name of the endpoint */
  endpoint: string;
  /** who asked for it; mainstem: nobody */
  by?: string | null;
  /** webhook.updated: the settings that differ now */
  changed?: string[] | null;
  /** webhook.deleted, by the configuration: deliveries that were pending */
  pending?: number | null;
  /** webhook.deleted, by the configuration: dead letters */
  dead?: number | null;
  /** webhook.disabled: why */
  reason?: string | null;
  /** webhook.disabled: since when everything failed */
  failing_since?: string | null;
  /** webhook.disabled: of the latest failed attempt */
  last_error?: string | null;
  /** webhook.secret_rotated: seconds for which the old secret signs as well */
  overlap?: number | null;
  /** webhook.replayed: events after this position come again */
  after?: string | null;
  /** webhook.replayed: and up to this one */
  upto?: string | null;
  /** webhook.replayed: position that was asked for; the log may not reach back to it */
  requested?: string | null;
  /** webhook.retried: the delivery, where it is one */
  delivery?: string | null;
  /** webhook.retried: how many dead letters, where it is all */
  deliveries?: number | null;
}

/** An event of the gateway about one of its webhook endpoints. */
export interface WebhookEvent {
  specversion: "1.0";
  id: string;
  source: "/mainstem";
  type: `webhook.${string}`;
  /** the endpoint's name */
  subject: string;
  time: string;
  datacontenttype: "application/json";
  dataschema: string;
  sequence: string;
  data: WebhookData;
}

/** Whatever the stream sends. `type` tells which it is. */
export type MainstemEvent = SourceEvent | StreamEvent | TaskEvent | WebhookEvent;
