/**
 * @param {object} options
 * @param {string} options.url
 * @param {(() => string | Promise<string>) | undefined} options.getToken
 * @param {new (url: string, protocols: string[]) => WebSocket} options.WebSocket
 * @param {{initial: number, max: number}} options.backoff milliseconds
 * @param {() => number} options.random
 * @param {object} hooks
 * @param {(event: Message) => void} hooks.message
 * @param {() => void} hooks.lost the connection is gone; it may come back
 * @param {(state: State) => void} hooks.state
 * @param {(error: unknown) => void} hooks.error something failed that is tried again
 * @param {(error: Error) => void} hooks.stopped it will not come back
 */
export function connection({ url, getToken, WebSocket, backoff, random }: {
    url: string;
    getToken: (() => string | Promise<string>) | undefined;
    WebSocket: new (url: string, protocols: string[]) => WebSocket;
    backoff: {
        initial: number;
        max: number;
    };
    random: () => number;
}, hooks: {
    message: (event: Message) => void;
    lost: () => void;
    state: (state: State) => void;
    error: (error: unknown) => void;
    stopped: (error: Error) => void;
}): {
    readonly state: State;
    send: (command: object) => void;
    stop: (error: Error) => void;
    /** Connects, unless it has. */
    start(): void;
    /** Connects anew. */
    redial(): void;
};
export type State = "idle" | "connecting" | "open" | "waiting" | "offline" | "closed";
import type { Message } from "./filter.js";
