// What an application in TypeScript writes compiles, and what is wrong does not. Nothing here is run.
import { StreamRefused, TaskFailed, createClient } from "@mainstem/client";
import type { Client, TaskData, TaskEvent, TaskHandle } from "@mainstem/client";
import { useConnection, useTask } from "@mainstem/client/react";

const client: Client = createClient({ url: "https://events.example.com", getToken: async () => "token", backoff: { max: 5 } });

export async function follow(signal: AbortSignal): Promise<TaskData> {
  const task: TaskHandle = client.task("studio/1", { signal, follow: true });
  task.on("change", (data) => data?.task.progress?.toFixed());
  task.on("task.progressed", (event: TaskEvent) => event.data.task.status === "running");
  // @ts-expect-error: there is no such thing to listen to
  task.on("finished", () => {});
  // @ts-expect-error: null until something is known
  task.state.task;
  for await (const { task: state } of task) if (state.queue) state.queue.position;
  try {
    return await task.done;
  } catch (error) {
    if (error instanceof TaskFailed) return error.data;
    if (error instanceof StreamRefused) error.code;
    throw error;
  }
}

export const stop: () => void = client.subscribe({ type: ["task.*"], source: "studio" }, (event) => {
  if (event.type === "task.succeeded") event.data.task.key;
  if (event.type === "source.gap") event.data.recovered;
  // @ts-expect-error: not every event is of a task
  event.data.task.key;
});
// @ts-expect-error: no field of a filter
client.subscribe({ colour: "red" }, () => {});
client.on("state", (state) => state === "open");
client.on("stream.conflated", ({ data }) => data.skipped);

export function view() {
  const { data, error } = useTask(client, null);
  return useConnection(client) === "open" ? data?.task.progress : error?.message;
}
