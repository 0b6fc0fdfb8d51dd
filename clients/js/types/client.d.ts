/** @typedef {import("../types/event.js").MainstemEvent} MainstemEvent */
/** @typedef {import("../types/event.js").TaskEvent} TaskEvent */
/** @typedef {import("../types/event.js").SourceEvent} SourceEvent */
/** @typedef {import("../types/event.js").StreamEvent} StreamEvent */
/** @typedef {import("../types/event.js").TaskData} TaskData */
/** @typedef {import("../types/event.js").Task} Task */
/** @typedef {import("./connection.js").State} State */
/** @typedef {import("./filter.js").Filter} Filter */
/** @typedef {import("./task.js").TaskHandle} TaskHandle */
/** @typedef {import("./task.js").TaskOptions} TaskOptions */
/**
 * @typedef {object} ClientOptions
 * @property {string | URL} [url] where the gateway is, such as `https://events.example.com`; may be relative to the page.
 *   Default: where this file was loaded from, for pages that import the gateway's own `/client.js`
 * @property {() => string | Promise<string>} [getToken] a token for the stream; asked again for every connection and before
 *   the token expires. Not needed where the gateway asks for none
 * @property {new (url: string, protocols: string[]) => WebSocket} [WebSocket] default: the built-in one (browsers, Node 22)
 * @property {{initial?: number, max?: number}} [backoff] milliseconds of the first and the longest wait, 500 and 20000
 * @property {() => number} [random] chance, for tests
 */
/**
 * @typedef {object} SubscribeOptions
 * @property {AbortSignal} [signal] ends the subscription
 * @property {boolean} [snapshot] first the current state of every matching task, as `task.snapshot`
 * @property {string} [after] resume after a position: a `sequence` of an event, or `client.position` of an earlier client
 */
/**
 * What can be listened to: the new state of the connection, errors, the filter of a subscription whose past is incomplete
 * (current states follow), and notices of the stream by their type.
 * @typedef {{state: State, error: Error, reset: Filter | null, [notice: `stream.${string}`]: StreamEvent}} ClientEvents
 */
/**
 * @typedef {object} Client
 * @property {State} state of the connection
 * @property {string | null} position up to which all subscriptions have everything, to be kept and used as `after`
 * @property {<K extends keyof ClientEvents>(type: K, fn: (value: ClientEvents[K]) => void) => () => void} on returns a
 *   function that takes the listener away
 * @property {(filter: Filter | null, fn: (event: MainstemEvent) => void, options?: SubscribeOptions) => () => void} subscribe
 *   calls `fn` with every matching event, each once, in the order of the log. Returns a function that ends it. Throws why
 *   the client has ended, where it has
 * @property {(key: string, options?: TaskOptions) => TaskHandle} task follows one task
 * @property {() => void} close ends everything
 */
/**
 * A client; it connects when it is first asked for something.
 * @param {ClientOptions} [options]
 * @returns {Client}
 * @throws {TypeError} there is no URL, or no WebSocket
 */
export function createClient({ url, getToken, WebSocket, backoff, random }?: ClientOptions): Client;
export type MainstemEvent = import("../types/event.js").MainstemEvent;
export type TaskEvent = import("../types/event.js").TaskEvent;
export type SourceEvent = import("../types/event.js").SourceEvent;
export type StreamEvent = import("../types/event.js").StreamEvent;
export type TaskData = import("../types/event.js").TaskData;
export type Task = import("../types/event.js").Task;
export type State = import("./connection.js").State;
export type Filter = import("./filter.js").Filter;
export type TaskHandle = import("./task.js").TaskHandle;
export type TaskOptions = import("./task.js").TaskOptions;
export type ClientOptions = {
    /**
     * where the gateway is, such as `https://events.example.com`; may be relative to the page.
     * Default: where this file was loaded from, for pages that import the gateway's own `/client.js`
     */
    url?: string | URL | undefined;
    /**
     * a token for the stream; asked again for every connection and before
     * the token expires. Not needed where the gateway asks for none
     */
    getToken?: (() => string | Promise<string>) | undefined;
    /**
     * default: the built-in one (browsers, Node 22)
     */
    WebSocket?: (new (url: string, protocols: string[]) => WebSocket) | undefined;
    /**
     * milliseconds of the first and the longest wait, 500 and 20000
     */
    backoff?: {
        initial?: number;
        max?: number;
    } | undefined;
    /**
     * chance, for tests
     */
    random?: (() => number) | undefined;
};
export type SubscribeOptions = {
    /**
     * ends the subscription
     */
    signal?: AbortSignal | undefined;
    /**
     * first the current state of every matching task, as `task.snapshot`
     */
    snapshot?: boolean | undefined;
    /**
     * resume after a position: a `sequence` of an event, or `client.position` of an earlier client
     */
    after?: string | undefined;
};
/**
 * What can be listened to: the new state of the connection, errors, the filter of a subscription whose past is incomplete
 * (current states follow), and notices of the stream by their type.
 */
export type ClientEvents = {
    state: State;
    error: Error;
    reset: Filter | null;
    [notice: `stream.${string}`]: StreamEvent;
};
export type Client = {
    /**
     * of the connection
     */
    state: State;
    /**
     * up to which all subscriptions have everything, to be kept and used as `after`
     */
    position: string | null;
    /**
     * returns a
     * function that takes the listener away
     */
    on: <K extends keyof ClientEvents>(type: K, fn: (value: ClientEvents[K]) => void) => () => void;
    /**
     *   calls `fn` with every matching event, each once, in the order of the log. Returns a function that ends it. Throws why
     *   the client has ended, where it has
     */
    subscribe: (filter: Filter | null, fn: (event: MainstemEvent) => void, options?: SubscribeOptions) => () => void;
    /**
     * follows one task
     */
    task: (key: string, options?: TaskOptions) => TaskHandle;
    /**
     * ends everything
     */
    close: () => void;
};
export { StreamRefused, TaskFailed } from "./errors.js";
